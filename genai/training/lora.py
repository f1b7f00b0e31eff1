"""LoRA layers as one operation: the update is added into the base layer's output by the matrix product itself.

peft writes `base(x) + B(A(x)) * scaling`: over all linear layers of a model the scaling, the sum and their gradients
are four more passes over every activation. The result is the same up to rounding; whatever is not the plain case
(dropout, DoRA, several adapters, a merged or switched-off one) is left to peft.

Shapes: N tokens, I input features, O output features, R rank.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable


def fuse_lora_layers(model: nn.Module) -> int:
    """Let the plain LoRA layers of `model` compute in one operation; returns how many there are.

    The layers stay peft's (saving, merging and disabling work as before): only their class is replaced by a subclass
    of it.
    """
    from peft.tuners.lora.layer import Linear

    fused = _fused_class()
    layers = [module for module in model.modules() if type(module) is Linear and type(module.base_layer) is nn.Linear]
    for layer in layers:
        layer.__class__ = fused
    return len(layers)


@cache
def _fused_class() -> Any:
    from peft.tuners.lora.layer import Linear

    class FusedLoraLinear(Linear):
        """peft's LoRA layer over a linear one; see the module."""

        def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            name = _plain_adapter(self, args, kwargs)
            if name is None:
                return super().forward(x, *args, **kwargs)
            layer: Any = self
            base, down, up = layer.base_layer, layer.lora_A[name], layer.lora_B[name]
            return lora_linear(x, base.weight, base.bias, down.weight, up.weight, layer.scaling[name])

    return FusedLoraLinear


def _plain_adapter(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """The name of the layer's only active adapter, if it is an ordinary one."""
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    if args or kwargs or layer.disable_adapters or layer.merged or len(active) != 1:
        return None
    name: str = active[0]
    dropout = layer.lora_dropout[name]
    has_dropout = not isinstance(dropout, nn.Identity) and layer.training
    plain = not (has_dropout or name in layer.lora_variant or layer.lora_B[name].bias is not None)
    return name if plain and not layer.base_layer.weight.requires_grad else None


def lora_linear(
    x: torch.Tensor,
    weight_OI: torch.Tensor,
    bias_O: torch.Tensor | None,
    down_RI: torch.Tensor,
    up_OR: torch.Tensor,
    scaling: float,
) -> torch.Tensor:
    """`x W^T + bias + scaling * x A^T B^T`, in autocast's number format where that is on.

    Args:
        x: (..., I).
        weight_OI: frozen weight W.
        bias_O: its bias.
        down_RI: A.
        up_OR: B.
        scaling: factor of the update.

    Returns:
        (..., O).
    """
    dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
    parts = [None if each is None else each.to(dtype) for each in (x, weight_OI, bias_O, down_RI, up_OR)]
    y: torch.Tensor = _LoraLinear.apply(*parts, scaling)  # type: ignore[no-untyped-call]
    return y


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight_OI: torch.Tensor,
        bias_O: torch.Tensor | None,
        down_RI: torch.Tensor,
        up_OR: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        x_NI = x.flatten(0, -2)
        y_NO = torch.nn.functional.linear(x_NI, weight_OI, bias_O)
        low_NR = x_NI @ down_RI.t()
        y_NO.addmm_(low_NR, up_OR.t(), alpha=scaling)
        ctx.save_for_backward(x_NI, weight_OI, down_RI, up_OR, low_NR)
        ctx.scaling = scaling
        return y_NO.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x_NI, weight_OI, down_RI, up_OR, low_NR = ctx.saved_tensors
        grad_NO = grad.flatten(0, -2)
        grad_low_NR = (grad_NO @ up_OR).mul_(ctx.scaling)
        grad_up_OR = grad_NO.t() @ low_NR.mul(ctx.scaling)
        grad_down_RI = grad_low_NR.t() @ x_NI
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad_NO @ weight_OI).addmm_(grad_low_NR, down_RI).view(*grad.shape[:-1], -1)
        return grad_x, None, None, grad_down_RI, grad_up_OR, None
