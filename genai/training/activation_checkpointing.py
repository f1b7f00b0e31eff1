"""Activation checkpointing: keep the input of each decoder block, compute the rest again in the backward pass."""

from __future__ import annotations

from typing import Any

from torch import nn

from genai.errors import UsageError


def checkpoint_activations(model: nn.Module) -> None:
    """Switch it on, block by block, for a model of transformers with or without an adapter of peft.

    Raises:
        UsageError: the architecture does not support it.
    """
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    if not base.supports_gradient_checkpointing:
        raise UsageError(f"{type(base).__name__} cannot recompute its activations", fix="activation_checkpointing: false")
    # Renamed within transformers 5; the old name warns there.
    enable = getattr(base, "activation_checkpointing_enable", base.gradient_checkpointing_enable)
    enable({"use_reentrant": False})
    # Only the reentrant kind needs a gradient at the embedding's output; here it would be computed for nothing.
    base.disable_input_require_grads()
