"""Recomputation keeps less and is refused where a model does not know it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from genai.config.training import PeftConfig
from genai.errors import UsageError
from genai.models.adapters import add_adapter
from genai.training.activation_checkpointing import checkpoint_activations

pytestmark = pytest.mark.integration


def saved_bytes(model: Any) -> int:
    sizes = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(input_ids=torch.zeros(1, 64, dtype=torch.int64), use_cache=False).logits.sum()
    return sum(sizes)


@pytest.mark.parametrize("adapter", [False, True])
def test_less_is_kept(tiny_model: Any, adapter: bool) -> None:
    model = add_adapter(tiny_model, PeftConfig(r=2)) if adapter else tiny_model
    model.train()
    before = saved_bytes(model)
    checkpoint_activations(model)
    assert saved_bytes(model) < before / 3
    embedded = tiny_model.get_input_embeddings()(torch.zeros(1, 2, dtype=torch.int64))
    assert embedded.requires_grad is not adapter


def test_a_model_without_it_is_named(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(tiny_model), "supports_gradient_checkpointing", False)
    with pytest.raises(UsageError, match="LlamaForCausalLM cannot recompute"):
        checkpoint_activations(tiny_model)
