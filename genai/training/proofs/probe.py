"""Trying things out on the model that is about to be trained, and leaving no trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import nn

from genai.training.interfaces import ModelLoss
from genai.training.random_state import random_state, restore_random_state

_MAX_EXTRA_BYTES = {"cpu": 1 << 30, "cuda": 8 << 30}
"""Memory that turning weights into float32 may cost for a moment; a larger model is looked at in its first layers."""
_MAX_PARAMETERS = {"cpu": 1_500_000_000, "cuda": 20_000_000_000}
"""Weights that a proof multiplies with, so that it takes seconds."""


class ProvableLoss(ModelLoss, Protocol):
    """A loss that can be computed in float32 for a while."""

    precision: str


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """No dropout and no gradients inside; afterwards modes, gradients and random streams are what they were."""
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    streams = random_state()
    model.eval()
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, gradient in gradients:
            parameter.grad = gradient
        restore_random_state(streams)


@contextmanager
def in_float32(model_loss: ProvableLoss) -> Iterator[str]:
    """The trainer's own forward pass in float32, eagerly, on weights that are cast for as long as this lasts.

    Casting bfloat16 and float16 to float32 and back changes no bit.

    Yields:
        Which part of the model is computed, such as `all 30 layers`.
    """
    with undisturbed(model_loss.model), _exact_products(model_loss), _few_layers(model_loss) as scope:
        cast = [(p, p.dtype) for p in model_loss.model.parameters() if p.is_floating_point() and p.element_size() < 4]
        try:
            for parameter, _ in cast:
                parameter.data = parameter.data.float()
            yield scope
        finally:
            for parameter, dtype in cast:
                parameter.data = parameter.data.to(dtype)


def is_quantised(model: nn.Module) -> bool:
    """Whether weights are held in few bits, where float32 is out of reach."""
    return any(not parameter.is_floating_point() for parameter in model.parameters())


@contextmanager
def _exact_products(model_loss: ProvableLoss) -> Iterator[None]:
    """Neither autocast nor TF32, nor a compilation that would serve this one check."""
    precision, tf32 = model_loss.precision, torch.backends.cuda.matmul.allow_tf32
    model_loss.precision = "fp32"
    torch.backends.cuda.matmul.allow_tf32 = False
    compiled = any(getattr(module, "_compiled_call_impl", None) for module in model_loss.model.modules())
    try:
        # Asked for only where there is something compiled: the question alone loads the compiler.
        with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
            yield
    finally:
        model_loss.precision = precision
        torch.backends.cuda.matmul.allow_tf32 = tf32


@contextmanager
def _few_layers(model_loss: ProvableLoss) -> Iterator[str]:
    """Take out the last layers of a model that is too large to be computed in float32 on the side."""
    decoder = _decoder(model_loss.model)
    name, layers = _layers(decoder)
    if layers is None:
        yield "all layers"
        return
    kept = _affordable(model_loss.model, layers, getattr(decoder, "config", None), model_loss.device.type)
    if kept == len(layers):
        yield f"all {kept} layers"
        return
    setattr(decoder, name, layers[:kept].eval())
    try:
        yield f"the first {kept} of {len(layers)} layers"
    finally:
        setattr(decoder, name, layers)


def _decoder(model: Any) -> Any:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    # The native Llama calls its decoder as transformers' calls it.
    return base.get_decoder() if hasattr(base, "get_decoder") else base.model


def _layers(decoder: Any) -> tuple[str, nn.ModuleList | None]:
    described = getattr(decoder, "config", None)
    for name, child in decoder.named_children():
        if isinstance(child, nn.ModuleList) and len(child) == getattr(described, "num_hidden_layers", len(child)):
            return name, child
    return "", None


def _affordable(model: nn.Module, layers: nn.ModuleList, config: Any, device_type: str) -> int:
    """How many layers fit both limits; at least one of each kind of layer that the model has."""
    extra_bytes, parameters = _cost(model)
    kinds = list(getattr(config, "layer_types", None) or [])
    fewest = next((count for count in range(1, len(kinds) + 1) if {*kinds[:count]} == {*kinds}), 1)
    kept = len(layers)
    while kept > fewest and (extra_bytes > _MAX_EXTRA_BYTES[device_type] or parameters > _MAX_PARAMETERS[device_type]):
        kept -= 1
        layer_bytes, layer_parameters = _cost(layers[kept])
        extra_bytes, parameters = extra_bytes - layer_bytes, parameters - layer_parameters
    return kept


def _cost(module: nn.Module) -> tuple[int, int]:
    """Bytes that float32 takes more than what is held, and the number of weights."""
    weights = [p for p in module.parameters() if p.is_floating_point()]
    return sum(max(0, 4 - p.element_size()) * p.numel() for p in weights), sum(p.numel() for p in weights)
