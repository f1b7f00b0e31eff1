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
    whole: Any = model
    base = whole.get_base_model() if hasattr(whole, "get_base_model") else whole
    if not base.supports_gradient_checkpointing:
        fix = "set activation_checkpointing: false"
        raise UsageError(f"{type(base).__name__} cannot recompute its activations", fix=fix)
    # Renamed within transformers 5; the old name warns there.
    enable = getattr(base, "activation_checkpointing_enable", base.gradient_checkpointing_enable)
    enable({"use_reentrant": False})
    # Only the reentrant kind needs a gradient at the embedding's output; here it would be computed for nothing.
    base.disable_input_require_grads()
