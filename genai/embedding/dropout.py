"""Dropout that costs a third (of bfloat16; of float32 more than half): on a CPU most of torch's own is spent on drawing
a random number for each value.

Sixteen random bits a value are enough for any probability to 1/32768, and one draw of torch's generator holds four of
them. The survivors are scaled by the probability as it really is, so the expectation is exact. The generator is
torch's, so that a checkpoint that holds its state holds all there is.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

ONE = 2**15
"""Probabilities are counted in parts of this."""


class QuickDropout(nn.Dropout):
    """As `nn.Dropout`; values elsewhere than on a CPU go to torch's own."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Some values set to 0, the others scaled up."""
        drops = round(self.p * ONE)
        if not self.training or input.device.type != "cpu" or not 0 < drops < ONE or self.inplace:
            return super().forward(input)
        apply: Any = _Dropout.apply
        return cast("torch.Tensor", apply(input, drops))


def quicken_dropout(model: nn.Module) -> None:
    """Put a `QuickDropout` in the place of every `nn.Dropout`."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                quick = QuickDropout(child.p, child.inplace)
                module.add_module(name, quick.train(child.training))


def sign_where_dropped(values: torch.Tensor, drops: int) -> torch.Tensor:
    """int16 of the shape of `values`, below 0 with a probability of `drops` / ONE, else 0 or more."""
    count = values.numel()
    draws = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    # Shifted by one, so that the subtraction cannot overflow.
    sixteen = draws.view(torch.int16)[:count].view(values.shape).bitwise_right_shift_(1)
    return sixteen.sub_(drops - ONE // 2)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> torch.Tensor:
        values, drops = inputs
        signs = sign_where_dropped(values, drops)
        ctx.scale = 1 / (1 - drops / ONE)
        # All bits or none, so that a bfloat16 is kept or emptied by one operation on integers.
        mask = signs.bitwise_right_shift_(15).bitwise_not_() if values.dtype == torch.bfloat16 else signs >= 0
        ctx.save_for_backward(mask)
        return _masked(values, mask, ctx.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return _masked(gradients[0], ctx.saved_tensors[0], ctx.scale), None


def _masked(values: torch.Tensor, mask: torch.Tensor, scale: float) -> torch.Tensor:
    scaled = (values * scale).contiguous()
    if mask.dtype == torch.bool:
        return scaled.mul_(mask)
    if scaled.dtype != torch.bfloat16:
        return scaled.mul_(mask != 0)
    return scaled.view(torch.int16).bitwise_and_(mask).view(torch.bfloat16)
