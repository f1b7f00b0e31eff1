"""The sizes of a Llama, and what is refused before anything is built."""

from __future__ import annotations

from typing import Any

import pytest

from genai.errors import UsageError
from genai.models.llama import LlamaConfig

SIZES: dict[str, Any] = {"vocab_size": 100, "d_model": 32, "n_layers": 2, "n_heads": 4, "d_ff": 48}
HF: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def test_heads() -> None:
    plain = LlamaConfig(**SIZES)
    assert (plain.kv_heads, plain.head_size) == (4, 8)
    other = LlamaConfig(**SIZES, n_kv_heads=2, head_dim=16)
    assert (other.kv_heads, other.head_size) == (2, 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_model": 30}, "d_model 30 is no multiple of n_heads 4"),
        ({"n_kv_heads": 3}, "n_heads 4 is no multiple of n_kv_heads 3"),
        ({"n_layers": 0}, "n_layers must be at least 1, not 0"),
        ({"n_kv_heads": 0}, "kv_heads must be at least 1, not 0"),
        ({"head_dim": 7}, "heads are 7 wide"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope_type 'yarn' is not known (one of linear, "),
        ({"rope_scaling": {"rope_type": "linear"}}, "rope_type linear needs factor"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "beta": 1}}, "rope_type linear knows no beta"),
    ],
)
def test_wrong_sizes_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        LlamaConfig(**{**SIZES, **changes})
    assert message in str(caught.value)


def test_defaults_are_those_of_transformers() -> None:
    config = LlamaConfig.from_hf(HF)
    assert (config.kv_heads, config.rope_theta, config.norm_eps, config.tie_embeddings) == (4, 10000.0, 1e-6, False)


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
        {"rope_theta": 5e5, "rope_scaling": {"type": "llama3", **LLAMA3}},
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3}},
    ],
)
def test_scaling_is_read_in_every_spelling(rope: dict[str, Any]) -> None:
    config = LlamaConfig.from_hf({**HF, **rope})
    assert config.rope_theta == 5e5 and config.rope_scaling == {"rope_type": "llama3", **LLAMA3}


@pytest.mark.parametrize("scaling", [None, {"rope_type": "linear", "factor": 2.0}, {"rope_type": "llama3", **LLAMA3}])
def test_there_and_back(scaling: dict[str, Any] | None) -> None:
    config = LlamaConfig(
        **SIZES, n_kv_heads=2, head_dim=16, rope_scaling=scaling, tie_embeddings=True, attention_bias=True
    )
    assert LlamaConfig.from_hf(config.to_hf()) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mistral"}, "config.json: the model type is 'mistral', not 'llama' (load it with name: hf_ca"),
        ({"hidden_act": "gelu"}, "config.json: the native Llama knows no hidden_act: 'gelu'"),
        ({"attention_dropout": 0.1}, "knows no attention_dropout: 0.1"),
        ({"quantization_config": {"bits": 4}}, "knows no quantization_config"),
        ({"hidden_size": None}, "hidden_size must be a whole number, not None"),
        ({"rope_parameters": {"rope_type": "longrope", "factor": 4.0}}, "rope_type 'longrope' is not known"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "partial_rotary_factor": 0.5}}, "partial_rotary"),
    ],
)
def test_what_is_not_a_plain_llama_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        LlamaConfig.from_hf({**HF, **changes}, where="config.json")
    assert message in str(caught.value) and "\n" not in str(caught.value)
