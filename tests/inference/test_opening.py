"""Models from folders: what is told of them, what comes out, and what is refused before memory is taken."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from step_reading import greedy
from tokenizers import Tokenizer, models, pre_tokenizers

from genai.config.serve import LocalEngineConfig
from genai.errors import DataError, GenaiError, UsageError
from genai.inference import opening
from genai.inference.opening import OpenedModel, describe, open_model
from genai.inference.runners.llama import LlamaRunner
from genai.inference.runners.transformers import TransformersRunner
from genai.models.references import ResolvedModel, resolve_model

PROMPTS = [[5, 9, 13, 2, 44, 60, 7], [1, 2, 3]]
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{{ '<turn>' if m['role'] == 'assistant' }}{% endfor %}"


def save(folder: Path, kind: str, **values: Any) -> Path:
    import transformers

    words = {"<end>": 0, "<turn>": 1} | {f"w{index}": index for index in range(2, 64)}
    backend = Tokenizer(models.WordLevel(words, unk_token="w2"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", unk_token="w2")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = getattr(transformers, kind)(**{"vocab_size": 64, "bos_token_id": 0, "eos_token_id": 0, **values})
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "initializer_range": 0.3}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    save(root / "llama", "LlamaConfig", **LLAMA)
    save(root / "gpt2", "GPT2Config", **GPT2)
    return root


def resolved(path: Path) -> ResolvedModel:
    return ResolvedModel(reference=path.name, kind="folder", path=path)


def opened(path: Path, **engine: Any) -> OpenedModel:
    return open_model(resolved(path), engine=LocalEngineConfig(**{"precision": "fp32", **engine}))


def expected(path: Path, num_new: int = 8) -> list[list[int]]:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(path).eval()
    model.generation_config.eos_token_id = None
    outs = [model.generate(torch.tensor([prompt]), max_new_tokens=num_new, do_sample=False)[0] for prompt in PROMPTS]
    return [out[len(prompt) :].tolist() for out, prompt in zip(outs, PROMPTS, strict=True)]


@pytest.mark.parametrize(("name", "kind"), [("llama", LlamaRunner), ("gpt2", TransformersRunner)])
def test_each_architecture_gets_its_runner(name: str, kind: type, saved: Path) -> None:
    model = opened(saved / name)
    assert type(model.runner) is kind
    assert greedy(model.runner, PROMPTS, 8) == expected(saved / name)
    assert model.stop_token_ids == [0, 1]  # the config's end, and what the template writes behind an answer
    assert model.max_model_len == model.runner.max_positions == 128
    assert model.vocab_size == 64
    assert model.tokenizer_file == saved / name / "tokenizer.json"
    assert model.config["model_type"] == name
    assert model.bank.is_empty
    assert len(model.bank.modules) == {"llama": 14, "gpt2": 8}[name]


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_other_number_formats_are_near(name: str, precision: str, saved: Path) -> None:
    exact, model = opened(saved / name), opened(saved / name, precision=precision)
    logits: list[list[torch.Tensor]] = [[], []]
    for found, runner in zip(logits, (exact.runner, model.runner), strict=True):
        greedy(runner, PROMPTS[:1], 1, on_logits=lambda part, logits_V, found=found: found.append(logits_V))
    theirs, ours = logits[0][0], logits[1][0]
    assert not torch.equal(theirs, ours)
    assert (theirs - ours).norm() / theirs.norm() < 0.15
    assert model.runner.weight_bytes < 0.6 * exact.runner.weight_bytes


def test_what_is_told_before_the_weights_are_read(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "llama"
    shutil.copytree(saved / "llama", folder)
    (folder / "model.safetensors").unlink()
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 0]}))
    told = describe(resolved(folder), engine=LocalEngineConfig(max_model_len=100))
    assert (told.max_model_len, told.vocab_size, told.stop_token_ids) == (100, 64, [0, 1, 7])
    plain = describe(resolved(folder), engine=LocalEngineConfig(), chat_template="{{ messages[0]['content'] }}")
    assert plain.stop_token_ids == [0, 7]


def test_progress_is_told(saved: Path) -> None:
    heard: list[tuple[str, float]] = []
    open_model(
        resolved(saved / "gpt2"),
        engine=LocalEngineConfig(precision="fp32"),
        progress=lambda what, share: heard.append((what, share)),
    )
    assert [*dict(heard)] == ["reading config and tokenizer", "loading weights", "comparing with transformers"]
    shares = [share for what, share in heard if what == "loading weights"]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert len(shares) > 10


def change_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])


def leave_out(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    state = load_file(file)
    del state["model.norm.weight"]
    save_file(state, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "error", "said"),
    [
        (cut, DataError, "weights of llama are damaged"),
        (leave_out, DataError, "1 weights are missing"),
        (lambda folder: (folder / "model.safetensors").unlink(), DataError, "cannot be loaded"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), DataError, "cannot be"),
        (lambda folder: change_config(folder, hidden_size=64), DataError, "have another shape"),
        (lambda folder: change_config(folder, architectures=["LlamaModel"]), UsageError, "no causal language model"),
        (lambda folder: change_config(folder, model_type="lama"), DataError, "cannot be loaded: .*lama"),
        (lambda folder: (folder / "generation_config.json").write_text("{"), DataError, "generation_config"),
    ],
)
def test_what_cannot_be_opened(
    spoil: Callable[[Path], Any], error: type[GenaiError], said: str, saved: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "llama"
    shutil.copytree(saved / "llama", folder)
    spoil(folder)
    with pytest.raises(error, match=said):
        opened(folder)


def test_more_context_than_the_model_has(saved: Path) -> None:
    with pytest.raises(UsageError, match=r"max_model_len: 200 is more than llama can read \(128 tokens\)"):
        opened(saved / "llama", max_model_len=200)
    assert opened(saved / "llama", max_model_len=64).max_model_len == 64


def test_no_fast_tokenizer(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved / "llama", tmp_path / "llama", ignore=shutil.ignore_patterns("tokenizer.json"))
    with pytest.raises(UsageError, match=r"no fast tokenizer: tokenizer\.json is missing"):
        opened(tmp_path / "llama")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 999 bytes"),
        torch.OutOfMemoryError("CUDA out of memory"),
    ],
)
def test_memory_is_out(error: Exception, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(opening, "load_model", raising)
    with pytest.raises(DataError, match="not enough memory for llama"):
        opened(saved / "llama")


def test_other_errors_stay_what_they_are(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(*_: Any, **__: Any) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(opening, "load_model", raising)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        opened(saved / "llama")


@pytest.mark.integration
def test_a_real_model_and_a_real_adapter(tmp_path: Path) -> None:
    """SmolLM2 with an adapter as `genai finetune` saves it, beside rows without, on both runners."""
    from genai.config.finetune import HFCausalLMConfig
    from genai.config.training import PeftConfig
    from genai.inference.adapters import load_adapter
    from genai.inference.probing import prove_effect
    from genai.models.adapters import add_adapter, save_adapter
    from genai.models.loading import load_model

    base = resolve_model("gallery:smollm2-135m-instruct")
    asked = HFCausalLMConfig(pretrained_model_name_or_path=base.reference)
    adapted: Any = add_adapter(
        load_model(asked, base, dtype=torch.float32), PeftConfig(r=8, lora_alpha=16, target_modules="all-linear")
    )
    torch.manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    save_adapter(adapted, tmp_path / "adapter", base=base)
    prompt = [1, 4093, 198, 1780, 314, 260, 3575, 282, 4649, 47]
    theirs_PV = [adapted.eval()(torch.tensor([prompt])).logits[0, -1].detach()]
    with adapted.disable_adapter():
        theirs_PV.append(adapted(torch.tensor([prompt])).logits[0, -1].detach())
    del adapted

    model = open_model(base, engine=LocalEngineConfig(precision="fp32"))
    bank = model.bank
    adapter = load_adapter(tmp_path / "adapter", base=base, modules=bank.modules, max_rank=bank.max_rank)
    assert (adapter.rank, len(adapter.layers)) == (8, 210)
    bank.add(1, adapter)
    model.runner.allocate(4, 16)
    prove_effect(model.runner, slot=1, block_size=16)
    ours: dict[str, torch.Tensor] = {}
    greedy(
        model.runner,
        [prompt, prompt],
        1,
        slots=[1, 0],
        block_size=16,
        on_logits=lambda part, logits_V: ours.setdefault(part.sequence.id, logits_V),
    )
    for at, theirs_V in enumerate(theirs_PV):
        torch.testing.assert_close(ours[str(at)], theirs_V, atol=2e-3, rtol=1e-3)
