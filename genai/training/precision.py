"""Number formats: which parameters are held in which, and in which one products are computed.

`amp_bf16`: products in bfloat16 over float32 weights; weights that are not trained are held in bfloat16. `fp32`:
everything in float32.
"""

from __future__ import annotations

import torch
from torch import nn

from genai.training.lora import fuse_lora_layers

PRECISIONS = ("amp_bf16", "fp32")


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context in which a forward pass runs: bfloat16 products under `amp_bf16`, none otherwise."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "amp_bf16")


def frozen_dtype(precision: str) -> torch.dtype:
    """The number format in which weights that are not trained are held."""
    return torch.bfloat16 if precision == "amp_bf16" else torch.float32


def prepare_model(model: nn.Module, precision: str) -> None:
    """Cast parameters in place, trained ones to float32 and frozen ones to what `precision` holds them in; fuse
    plain adapters.

    Buffers keep their format (rotary frequencies lose their meaning in bfloat16), and so do quantised weights. Adapters
    of peft are told to take their input as it is; peft would cast it to float32 and autocast back again, at each of
    several hundred layers.
    """
    frozen = frozen_dtype(precision)
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(torch.float32 if parameter.requires_grad else frozen)
    for module in model.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = precision != "amp_bf16"  # type: ignore[assignment]
    if hasattr(model, "peft_config"):
        fuse_lora_layers(model)
