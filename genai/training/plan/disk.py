"""How much room checkpoints and the exported model take on a disk."""

from __future__ import annotations

from torch import nn

from genai.config.training import DecoupledLionWConfig, OptimizerConfig

_HEADER_BYTES = 1 << 20


def checkpoint_bytes(model: nn.Module, optimizer: OptimizerConfig) -> int:
    """Size of one checkpoint: the trained parameters and the optimizer's moments, all in float32."""
    moments = 1 if isinstance(optimizer, DecoupledLionWConfig) else 2
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return trained * 4 * (1 + moments) + _HEADER_BYTES


def model_bytes(model: nn.Module) -> int:
    """Size of the exported model in float32, which is the most that it is written in; tied weights once."""
    return sum(parameter.numel() for parameter in model.parameters()) * 4 + _HEADER_BYTES
