"""Tiny random Llamas of transformers, larger in their weights than usual so that attention matters."""

from collections.abc import Callable
from typing import Any

import pytest
import torch


def make_theirs(**changes: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes: dict[str, Any] = {
        "vocab_size": 89,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "attn_implementation": "sdpa",
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**{**sizes, **changes}))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.2)
    return model.eval()


@pytest.fixture
def theirs() -> Callable[..., Any]:
    """`theirs(num_key_value_heads=4, ...)`: a LlamaForCausalLM."""
    return make_theirs
