import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from genai.config.finetune import HFCausalLMConfig
from genai.errors import DataError, UsageError
from genai.models.export import export_gguf
from genai.models.loading import load_model
from genai.models.references import resolve_model

pytestmark = pytest.mark.integration
LLAMA3_ROPE = {
    "rope_theta": 10000.0,
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def make_config(family: str, vocab_size: int, llama_config: Callable[..., Any]) -> Any:
    from transformers import MistralConfig, Qwen2Config, Qwen3Config

    llama = llama_config(vocab_size)
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    shape = {name: getattr(llama, name) for name in (*names, "vocab_size", "max_position_embeddings")}
    shape |= {"initializer_range": 0.2, "bos_token_id": 1, "eos_token_id": 2}
    return {
        "llama": lambda: llama,
        "untied": lambda: llama_config(vocab_size, tie_word_embeddings=False),
        "biased": lambda: llama_config(vocab_size, attention_bias=True),
        "llama3": lambda: llama_config(vocab_size, rope_parameters=LLAMA3_ROPE),
        "mistral": lambda: MistralConfig(**shape, sliding_window=None),
        "qwen2": lambda: Qwen2Config(**shape),
        "qwen3": lambda: Qwen3Config(**shape, head_dim=128),
    }[family]()


@pytest.fixture
def make(tiny_tokenizer: Any, llama_config: Callable[..., Any], build: Callable[..., Path]) -> Callable[[str], Path]:
    """A folder with a random model of a family, whose norms and biases are random as well."""

    def make(family: str) -> Path:
        from safetensors.torch import load_file, save_file

        folder = build(make_config(family, len(tiny_tokenizer), llama_config), tiny_tokenizer)
        state = load_file(folder / "model.safetensors")
        torch.manual_seed(1)
        state = {k: v + 0.3 * torch.randn_like(v) if v.ndim == 1 else v for k, v in state.items()}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return make


@torch.no_grad()
def logits(path: Path, length: int = 40) -> torch.Tensor:
    config = HFCausalLMConfig(pretrained_model_name_or_path=str(path))
    model = load_model(config, resolve_model(str(path)), dtype=torch.float32)
    return torch.as_tensor(model(torch.arange(3, 3 + length)[None]).logits)


@pytest.mark.parametrize("family", ["llama", "untied", "mistral", "qwen2", "qwen3"])
def test_f32_comes_back_bit_for_bit(make: Callable[[str], Path], tmp_path: Path, family: str) -> None:
    folder = make(family)
    file = export_gguf(folder, tmp_path / "model.gguf", dtype="f32")
    assert torch.equal(logits(file), logits(folder))


@pytest.mark.parametrize(("dtype", "tolerance"), [("f16", 0.01), ("bf16", 0.05), ("q8_0", 0.1)])
def test_smaller_formats_come_back_near(
    make: Callable[[str], Path], tmp_path: Path, dtype: str, tolerance: float
) -> None:
    folder = make("llama")
    file = export_gguf(folder, tmp_path / "model.gguf", dtype=dtype)
    expected, got = logits(folder), logits(file)
    error = (got - expected).norm() / expected.norm()
    assert 0 < error < tolerance
    assert file.stat().st_size < (folder / "model.safetensors").stat().st_size * (0.5 if dtype == "q8_0" else 0.75)


def test_tokenizer_template_and_special_tokens_come_back(make: Callable[[str], Path], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = make("llama")
    resolved = resolve_model(str(export_gguf(folder, tmp_path / "model.gguf", dtype="f32")))
    before, after = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(resolved.path)
    for text in ("The site  office\n\nopens at 1234", "<|im_start|>user\nÄ🙂<|im_end|>"):
        assert after(text)["input_ids"] == before(text)["input_ids"]
    assert after.chat_template == before.chat_template
    assert (after.bos_token_id, after.eos_token_id) == (1, 2)
    assert json.loads((resolved.path / "generation_config.json").read_text())["eos_token_id"] == [2]


def test_spare_rows_of_the_embeddings_are_named(
    tiny_tokenizer: Any, llama_config: Callable[..., Any], build: Callable[..., Path], tmp_path: Path
) -> None:
    from gguf import GGUFReader

    folder = build(llama_config(len(tiny_tokenizer) + 7), tiny_tokenizer)
    reader = GGUFReader(export_gguf(folder, tmp_path / "model.gguf", dtype="f32"))
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    types = reader.fields["tokenizer.ggml.token_type"].contents()
    assert tokens[-1] == f"[PAD{len(tiny_tokenizer) + 6}]"
    assert (types[0], types[3], types[-1]) == (3, 1, 5)


def rewrite(folder: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads((folder / name).read_text())
    change(values)
    (folder / name).write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", lambda c: c.update(model_type="gpt2"), "GGUF export knows llama, mistral, qwen2, qwen3"),
        ("config.json", lambda c: c.update(sliding_window=64), "cannot say sliding_window: 64"),
        ("config.json", lambda c: c["rope_parameters"].update(rope_type="yarn"), "does not know rope_type 'yarn'"),
        ("config.json", lambda c: c.update(hidden_act="gelu"), "does not know hidden_act 'gelu'"),
        ("tokenizer.json", lambda t: t["model"].update(byte_fallback=True), "byte-level BPE tokenizers only"),
        ("tokenizer.json", lambda t: t.update(pre_tokenizer={"type": "Whitespace"}), "no name for how this tokenizer"),
    ],
)
def test_what_gguf_cannot_say_is_refused(
    make: Callable[[str], Path], tmp_path: Path, name: str, change: Callable[[Any], Any], message: str
) -> None:
    folder = make("llama")
    rewrite(folder, name, change)
    with pytest.raises(UsageError, match=message):
        export_gguf(folder, tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()


def test_a_weight_too_large_for_float16_is_refused(make: Callable[[str], Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = make("llama")
    state = load_file(folder / "model.safetensors")
    state["model.layers.0.mlp.up_proj.weight"][0, 0] = 1e5
    save_file(state, folder / "model.safetensors")
    with pytest.raises(DataError, match=r"up_proj\.weight does not fit float16") as caught:
        export_gguf(folder, tmp_path / "model.gguf")
    assert caught.value.fix == "export as bf16"
    assert [path.name for path in tmp_path.iterdir() if ".gguf" in path.name] == []


def test_unknown_weights_dtypes_and_folders(make: Callable[[str], Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = make("llama")
    with pytest.raises(UsageError, match="unknown GGUF dtype 'q4'"):
        export_gguf(folder, tmp_path / "model.gguf", dtype="q4")
    state = load_file(folder / "model.safetensors")
    save_file({**state, "model.layers.0.extra.weight": torch.zeros(2, 2)}, folder / "model.safetensors")
    with pytest.raises(DataError, match="has no place in a GGUF file"):
        export_gguf(folder, tmp_path / "model.gguf")
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match="no safetensors to export"):
        export_gguf(folder, tmp_path / "model.gguf")


@pytest.mark.parametrize("family", ["llama", "untied", "biased", "llama3", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("dtype", ["f32", "q8_0"])
def test_llama_cpp_agrees(
    make: Callable[[str], Path], tiny_tokenizer: Any, tmp_path: Path, family: str, dtype: str
) -> None:
    """The real llama.cpp reads the file and gives the same probabilities; its key-value cache is float16."""
    llama_cpp = pytest.importorskip("xllamacpp", reason="needs llama.cpp: pip install xllamacpp")
    folder = make(family)
    file = export_gguf(folder, tmp_path / "model.gguf", dtype=dtype)
    parameters = llama_cpp.CommonParams()
    parameters.model.path = str(file)
    parameters.n_ctx, parameters.n_parallel, parameters.warmup, parameters.verbosity = 256, 1, False, -1
    parameters.cpuparams.n_threads = 1
    expected = logits(folder, 150)[0].log_softmax(-1)
    # llama.cpp tells no probabilities of a token that is half a character or ends the text
    length = next(n for n in range(149, 0, -1) if tiny_tokenizer.decode([int(expected[n - 1].argmax())]).isascii())
    prompt = list(range(3, 3 + length))
    answer = llama_cpp.Server(parameters).handle_completions(
        {"prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": 5}
    )
    got = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    tolerance = 0.01 if dtype == "f32" else 0.4
    assert len(got) == 5
    for token in got:
        assert abs(token["logprob"] - expected[length - 1, token["id"]].item()) < tolerance


@pytest.mark.slow
def test_llama_cpp_reads_smollm2_as_we_do(shared_cache: None, tmp_path: Path) -> None:
    """The same tokens for text, numbers and special tokens; and an answer."""
    import urllib.request

    llama_cpp = pytest.importorskip("xllamacpp", reason="needs llama.cpp: pip install xllamacpp")
    from transformers import AutoTokenizer

    folder = resolve_model("gallery:smollm2-135m-instruct").path
    parameters = llama_cpp.CommonParams()
    parameters.model.path = str(export_gguf(folder, tmp_path / "model.gguf", dtype="f32"))
    parameters.n_ctx, parameters.n_parallel, parameters.warmup, parameters.verbosity = 512, 1, False, -1
    server = llama_cpp.Server(parameters)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text in (
        "x  12345 in 2024",
        "1,000.50 €  7",
        "don't ÄÖ 日本語 🙂",
        "<|im_start|>user\nhi<|im_end|>\n",
        "\t\ta \n \n b ",
    ):
        body = json.dumps({"content": text, "add_special": True, "parse_special": True}).encode()
        request = urllib.request.Request(f"{server.listening_address}/tokenize", body)
        with urllib.request.urlopen(request) as response:
            assert json.load(response)["tokens"] == tokenizer(text)["input_ids"]
    question = [{"role": "user", "content": "What is the capital of France?"}]
    answer = server.handle_chat_completions({"messages": question, "max_tokens": 16, "temperature": 0})
    assert "Paris" in answer["choices"][0]["message"]["content"]
    assert answer["choices"][0]["finish_reason"] == "stop"
