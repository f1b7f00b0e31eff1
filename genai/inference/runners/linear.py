"""Linear layers as products over weights that were laid out once for the processor.

On a CPU a product of few rows is bound by reading weights and by what is done around the product, so layouts pay: what
is not int8 is repacked for oneDNN, and int8 goes to FBGEMM. Both are tried on a small product first; where the operator
is missing or wrong, a plainer one takes its place.

Shapes: T rows; I inputs; O outputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

Precision = Literal["bf16", "fp32", "int8"]

_ROWS_EXPECTED = 32
"""What oneDNN lays weights out for; other numbers of rows were as quick with it."""
_LARGEST = 127.0
"""Of the 8-bit numbers that stand for weights and inputs, on either side of 0."""
_FINER = 254.0
"""What rounding to whole numbers leaves, at most a half, becomes 8 bits again when multiplied by this."""
_ZERO_POINT = 128
"""Stands for 0 among the unsigned 8-bit numbers that FBGEMM takes as inputs."""
_SMALLEST = torch.finfo(torch.float32).tiny * 128
"""Scale of rows that are all 0, or nearly."""
_WIDE_ROWS = 16
"""From so many rows on, weights in 8 bits are turned back into numbers of the input's format for the product."""


class Linear(Protocol):
    """y = x W^T + b."""

    num_bytes: int
    """Of the weights in memory."""

    def __call__(self, x_TI: Tensor) -> Tensor:
        """(T, I) -> (T, O), in the input's number format."""


def make_linear(weight_OI: Tensor, bias_O: Tensor | None, precision: Precision) -> Linear:
    """Lay a weight out.

    Args:
        weight_OI: in bfloat16 or float32.
        bias_O: may be absent.
        precision: int8 takes 8 bits for each weight; the others the format that the weight has.
    """
    if precision == "int8":
        kind: Callable[..., Linear] = Int8Linear if _has_int8(weight_OI.device.type) else WeightOnlyLinear
        return kind(weight_OI, bias_O)
    if _has_packed(weight_OI.device.type, weight_OI.dtype):
        return PackedLinear(weight_OI, bias_O)
    return PlainLinear(weight_OI, bias_O)


class PlainLinear:
    """torch's own."""

    def __init__(self, weight_OI: Tensor, bias_O: Tensor | None) -> None:
        self.num_bytes = weight_OI.nbytes
        self._weight_OI = weight_OI
        self._bias_O = bias_O

    def __call__(self, x_TI: Tensor) -> Tensor:
        return F.linear(x_TI, self._weight_OI, self._bias_O)


class PackedLinear:
    """Repacked for oneDNN, which with float32 is up to twice as quick as torch's own product, too."""

    def __init__(self, weight_OI: Tensor, bias_O: Tensor | None) -> None:
        self.num_bytes = weight_OI.nbytes
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight_OI.contiguous(), _ROWS_EXPECTED)
        self._bias_O = bias_O
        self._product = torch.ops.mkldnn._linear_pointwise.default

    def __call__(self, x_TI: Tensor) -> Tensor:
        y_TO: Tensor = self._product(x_TI, self._weight, self._bias_O, "none", [], "")
        return y_TO


class Int8Linear:
    """Weights in 8 bits with a scale for each row, inputs in two times 8 bits, sums in 32; float32 in and out.

    With 8 bits alone the inputs' error would be several times the weights'. What rounding leaves of them is scaled up
    and goes through the same product as further rows: they cost little where reading the weights takes the time. Each
    row is scaled by its own largest number, so that no result depends on what else is in the step.
    """

    def __init__(self, weight_OI: Tensor, bias_O: Tensor | None) -> None:
        self.num_bytes = weight_OI.numel() + 4 * weight_OI.shape[0]
        self._packed = _pack_int8(weight_OI)
        self._bias_O = bias_O
        self._product = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default

    def __call__(self, x_TI: Tensor) -> Tensor:
        scale_T1 = x_TI.abs().amax(-1, keepdim=True).mul_(1 / _LARGEST).clamp_(min=_SMALLEST)
        scaled_TI = x_TI / scale_T1
        coarse_TI = scaled_TI.round()
        rest_TI = scaled_TI.sub_(coarse_TI).mul_(_FINER)
        y_XO = self._product(torch.cat([coarse_TI, rest_TI]), 1.0, _ZERO_POINT, self._packed)
        y_TO: Tensor = y_XO[: len(x_TI)].add_(y_XO[len(x_TI) :], alpha=1 / _FINER).mul_(scale_T1)
        return y_TO if self._bias_O is None else y_TO.add_(self._bias_O)


class WeightOnlyLinear:
    """Weights in 8 bits with a scale for each row; products in the input's format."""

    def __init__(self, weight_OI: Tensor, bias_O: Tensor | None) -> None:
        self._scale_O, self._weight_OI = _to_int8(weight_OI)
        self.num_bytes = self._weight_OI.nbytes + self._scale_O.nbytes
        self._bias_O = bias_O

    def __call__(self, x_TI: Tensor) -> Tensor:
        if len(x_TI) < _WIDE_ROWS and x_TI.device.type == "cpu":
            y_TO = torch._weight_int8pack_mm(x_TI, self._weight_OI, self._scale_O.to(x_TI.dtype))
        else:
            y_TO = F.linear(x_TI, self._weight_OI.to(x_TI.dtype)).mul_(self._scale_O.to(x_TI.dtype))
        return y_TO if self._bias_O is None else y_TO.add_(self._bias_O)


def _to_int8(weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    """Scales (O,) float32, and weights as whole numbers (O, I)."""
    weight_OI = weight_OI.float()
    scale_O = weight_OI.abs().amax(1).clamp_(min=_SMALLEST) / _LARGEST
    return scale_O, (weight_OI / scale_O[:, None]).round_().to(torch.int8)


def _pack_int8(weight_OI: Tensor) -> object:
    scale_O, whole_OI = _to_int8(weight_OI)
    zeros_O = torch.zeros(len(scale_O), dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that quantised tensors of this kind are of the past
        quantised = torch._make_per_channel_quantized_tensor(whole_OI, scale_O.double(), zeros_O, 0)
    return torch.ops.quantized.linear_prepack(quantised, None)


# --- what this processor and this torch can do ------------------------------------------------------------------------


@cache
def _has_packed(device_type: str, dtype: torch.dtype) -> bool:
    return device_type == "cpu" and _is_right(PackedLinear, dtype)


@cache
def _has_int8(device_type: str) -> bool:
    return device_type == "cpu" and _is_right(Int8Linear, torch.float32)


def _is_right(kind: Callable[[Tensor, Tensor | None], Linear], dtype: torch.dtype) -> bool:
    """Whether a small product comes out as it should; large numbers show sums that overflow."""
    weight_OI = torch.linspace(0.5, 1.0, 96 * 64, dtype=torch.float32).view(96, 64).to(dtype)
    x_TI = torch.linspace(0.8, 1.0, 3 * 64, dtype=torch.float32).view(3, 64).to(dtype)
    try:
        found_TO = kind(weight_OI, None)(x_TI)
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    expected_TO = F.linear(x_TI.float(), weight_OI.float())
    return bool(torch.allclose(found_TO.float(), expected_TO, rtol=0.02))
