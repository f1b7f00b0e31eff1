import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from genai.config.finetune import HFCausalLMConfig, QuantizationConfig, TokenizerConfig
from genai.config.training import PeftConfig
from genai.errors import ConfigError, DataError, MissingExtraError, UsageError
from genai.models.loading import build_meta, fit_embeddings, load_config, load_model, load_tokenizer
from genai.models.references import resolve_model

pytestmark = pytest.mark.integration


def load(folder: Path, **changes: Any) -> Any:
    config = HFCausalLMConfig(pretrained_model_name_or_path=str(folder), **changes)
    return load_model(config, resolve_model(str(folder)), dtype=torch.float32)


def rewrite_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    state = change(load_file(file))
    save_file(state, file, metadata={"format": "pt"})


def rewrite_config(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_loads_the_weights_of_the_files(tiny: Path) -> None:
    from safetensors.torch import load_file

    model = load(tiny)
    stored = load_file(tiny / "model.safetensors")
    assert not model.training
    assert torch.equal(model.state_dict()["model.norm.weight"], stored["model.norm.weight"])
    assert model.config._attn_implementation == "sdpa"


def test_dtype_and_attention(tiny: Path) -> None:
    config = HFCausalLMConfig(pretrained_model_name_or_path=str(tiny), attn_implementation="eager")
    model = load_model(config, resolve_model(str(tiny)), dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert model.config._attn_implementation == "eager"


def test_random_weights_follow_the_seed_and_leave_no_trace(tiny: Path) -> None:
    before = torch.get_rng_state()
    config = HFCausalLMConfig(pretrained_model_name_or_path=str(tiny), pretrained=False)
    resolved = resolve_model(str(tiny))
    weights = [
        load_model(config, resolved, dtype=torch.float32, seed=seed).get_input_embeddings().weight for seed in (1, 1, 2)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("eos", [2, [0, 2]])
def test_the_end_of_a_turn_is_trained_although_it_pads(tiny: Path, eos: Any) -> None:
    rewrite_config(tiny, pad_token_id=2, eos_token_id=eos)
    embeddings = load(tiny).get_input_embeddings()
    embeddings(torch.tensor([2, 3])).sum().backward()
    assert embeddings.weight.grad[2].abs().sum() > 0


def test_meta_model_has_shapes_and_no_memory(tiny: Path) -> None:
    config = HFCausalLMConfig(pretrained_model_name_or_path=str(tiny))
    meta = build_meta(config, resolve_model(str(tiny)))
    assert {parameter.device.type for parameter in meta.parameters()} == {"meta"}
    assert {n: p.shape for n, p in meta.named_parameters()} == {n: p.shape for n, p in load(tiny).named_parameters()}


def test_a_missing_weight_is_an_error(tiny: Path) -> None:
    rewrite_weights(tiny, lambda state: {k: v for k, v in state.items() if "layers.1.mlp.up_proj" not in k})
    with pytest.raises(DataError, match=r"1 weights are missing, e\.g\. model\.layers\.1\.mlp\.up_proj\.weight"):
        load(tiny)


def test_another_shape_is_an_error(tiny: Path) -> None:
    rewrite_weights(
        tiny, lambda state: {k: v[:32].clone() if k == "model.norm.weight" else v for k, v in state.items()}
    )
    with pytest.raises(DataError, match=r"model\.norm\.weight"):
        load(tiny)


def test_a_spare_weight_is_a_warning(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    rewrite_weights(tiny, lambda state: {**state, "spare.weight": torch.zeros(1)})
    load(tiny)
    assert "1 weights have no place in the model, e.g. spare.weight" in caplog.text


@pytest.mark.parametrize("damage", ["cut", "header", "none"])
def test_damaged_weights(tiny: Path, damage: str) -> None:
    file = tiny / "model.safetensors"
    content = file.read_bytes()
    if damage == "none":
        file.unlink()
    else:
        file.write_bytes(content[: len(content) // 2] if damage == "cut" else b"\xff" * 64 + content[64:])
    with pytest.raises(DataError, match="damaged" if damage != "none" else "cannot be loaded"):
        load(tiny)


def test_an_encoder_is_no_language_model(tiny: Path) -> None:
    rewrite_config(tiny, model_type="bert", architectures=["BertModel"])
    with pytest.raises(UsageError, match="no causal language model: BertModel is an encoder"):
        load(tiny)


def test_an_encoder_decoder_is_no_causal_model(tiny: Path) -> None:
    rewrite_config(tiny, model_type="t5", architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True)
    with pytest.raises(UsageError, match="an encoder-decoder"):
        load(tiny)


def test_code_of_the_model_does_not_run(tiny: Path) -> None:
    (tiny / "own.py").write_text("open('ran', 'w')")
    rewrite_config(tiny, model_type="own", auto_map={"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"})
    with pytest.raises(UsageError, match="needs Python code of its own") as caught:
        load(tiny)
    assert "trust_remote_code" in str(caught.value.fix)


def test_an_unknown_architecture(tiny: Path) -> None:
    rewrite_config(tiny, model_type="lama")
    with pytest.raises(DataError, match="cannot be loaded"):
        load(tiny)


def test_config_overrides(tiny: Path) -> None:
    rope = {"rope_theta": 5000.0}
    config = HFCausalLMConfig(
        pretrained_model_name_or_path=str(tiny),
        config_overrides={"attention_dropout": 0.1, "max_position_embeddings": 512, "rope_parameters": rope},
    )
    loaded = load_config(config, resolve_model(str(tiny)))
    assert (loaded.attention_dropout, loaded.max_position_embeddings) == (0.1, 512)
    assert loaded.rope_parameters == {"rope_theta": 5000.0, "rope_type": "default"}


def test_all_wrong_overrides_at_once(tiny: Path) -> None:
    overrides = {"atention_dropout": 0.1, "hidden_act": 3, "tie_word_embeddings": "yes", "xyzzy": 1}
    with pytest.raises(ConfigError) as caught:
        load(tiny, config_overrides=overrides)
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert "model.config_overrides.atention_dropout" in lines[0]
    assert "did you mean 'attention_dropout'?" in lines[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a machine without a GPU is told")
def test_what_needs_a_gpu_says_so(tiny: Path) -> None:
    with pytest.raises(UsageError, match="flash_attention_2 needs a CUDA device"):
        load(tiny, attn_implementation="flash_attention_2")
    with pytest.raises((MissingExtraError, UsageError), match=r"bitsandbytes|needs a CUDA device"):
        load(tiny, quantization=QuantizationConfig(), peft_config=PeftConfig())


def tokenizer_of(folder: Path, **values: Any) -> Any:
    config = HFCausalLMConfig(pretrained_model_name_or_path=str(folder))
    return load_tokenizer(config, TokenizerConfig(**values), resolve_model(str(folder)))


def test_pad_is_not_the_end_of_a_turn(tiny: Path) -> None:
    tokenizer = tokenizer_of(tiny)
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|endoftext|>", "<|im_end|>")
    assert len(tokenizer) == json.loads((tiny / "config.json").read_text())["vocab_size"]


def test_a_pad_token_of_its_own_is_kept(tiny: Path, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(tiny, kwargs={"pad_token": "<|im_start|>"})
    assert tokenizer.pad_token == "<|im_start|>"


def test_tokenizer_of_another_model(tiny: Path, tokenizer_with: Callable[..., Any], tmp_path: Path) -> None:
    other = tokenizer_with(chat_template="{{ messages[0].content }}")
    (tmp_path / "other").mkdir()
    other.save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "config.json").write_text('{"model_type": "llama"}')
    assert tokenizer_of(tiny, name=str(tmp_path / "other")).chat_template == "{{ messages[0].content }}"


def test_wrong_arguments_for_a_tokenizer(tiny: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        tokenizer_of(tiny, kwargs={"padding_sid": "left", "model_max_length": 64})
    assert str(caught.value) == (
        "tokenizer.kwargs.padding_sid: unknown argument 'padding_sid' for a tokenizer (did you mean 'padding_side'?)"
    )
    assert tokenizer_of(tiny, kwargs={"model_max_length": 64}).model_max_length == 64


def test_no_tokenizer(tiny: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tiny / name).unlink()
    with pytest.raises(DataError, match="cannot be loaded"):
        tokenizer_of(tiny)


def test_new_tokens_get_embeddings(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, tokenizer = load(tiny), tokenizer_of(tiny)
    assert fit_embeddings(model, tokenizer) is False
    tokenizer.add_tokens(["<tool>", "</tool>"])
    assert fit_embeddings(model, tokenizer) is True
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert "2 tokens were added" in caplog.text
