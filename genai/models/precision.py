"""Where models run, and in which number format, unless somebody says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "bf16", "fp32"]


def device() -> torch.device:
    """Where models run: the accelerator where there is one."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype_for(precision: Precision, where: torch.device) -> torch.dtype:
    """The number format of weights and products; bfloat16 pays only where the processor multiplies it."""
    import torch

    if precision == "auto":
        cpu: Any = torch.cpu
        # No public function of torch tells this yet; without these the answer is the safe one.
        asked = (getattr(cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
        fast = torch.cuda.is_bf16_supported() if where.type == "cuda" else any(ask() for ask in asked if ask)
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32
