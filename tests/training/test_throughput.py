"""FLOPs of known models, and which GPU has which peak."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from genai.config.training import PeftConfig
from genai.models.adapters import add_adapter
from genai.training.throughput import flops_per_token, peak_flops, peak_of


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("NVIDIA GeForce RTX 4090", 165),
    ],
)
def test_peaks(name: str, tflops: float) -> None:
    assert peak_of(name) == tflops * 1e12


def test_what_is_not_known_has_no_peak() -> None:
    assert peak_of("NVIDIA A1000") is None
    assert peak_flops(torch.device("cpu")) is None


def llama(**changes: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {
        "vocab_size": 100,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    }
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**{**sizes, **changes}))
    model.tie_weights()
    return model


@pytest.mark.integration
def test_flops_of_a_llama() -> None:
    blocks = 3 * (4 * 32 * 32 + 3 * 32 * 64 + 2 * 32) + 32
    attention = 6 * 3 * 32 * 50
    tied, untied = llama(tie_word_embeddings=True), llama(tie_word_embeddings=False)
    # The head is a product, the look-up of an embedding is none.
    for model in (tied, untied):
        assert flops_per_token(model, 50) == 6 * (blocks + 100 * 32) + attention


@pytest.mark.integration
def test_a_frozen_weight_costs_four() -> None:
    model = add_adapter(llama(tie_word_embeddings=True), PeftConfig(r=2, target_modules=["q_proj"]))
    frozen = 3 * (4 * 32 * 32 + 3 * 32 * 64 + 2 * 32) + 32 + 100 * 32
    assert flops_per_token(model, 10) == 4 * frozen + 6 * 3 * (2 * 32 + 2 * 32) + 6 * 3 * 32 * 10
