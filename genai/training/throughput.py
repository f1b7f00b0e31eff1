"""Arithmetic of a training step, and how much of a device's peak it reaches (MFU).

Counted is what the step needs, not what it does: 6 FLOPs a weight and token for full training (2 forward, 4 backward),
4 for a frozen weight (its own gradient is never formed), attention once forward and twice backward over half of the seq
x seq square, and no recomputation. Source: Chowdhery et al., PaLM (arXiv:2204.02311), appendix B, with causal attention
counted as half.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_DENSE_BF16_PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "GH200": 989e12,
    "A100": 312e12,
    "A800": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "A10G": 70e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""FLOP/s without sparsity, from the makers' data sheets; a more particular name stands before a shorter one."""


def flops_per_token(model: nn.Module, seq_len: int) -> float:
    """FLOPs of one token of a training step, forward and backward.

    The embedding is a look-up and counts only where the head shares its weight.

    Args:
        model: a causal language model, with or without an adapter; on the meta device as well.
        seq_len: length of a row; with packing, the mean length of a document is closer to what attention does.
    """
    whole: Any = model
    if hasattr(whole, "flops_per_token"):  # the native Llama counts for itself
        return float(whole.flops_per_token(seq_len))
    base: Any = whole.get_base_model() if hasattr(whole, "get_base_model") else whole
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    embedding = base.get_input_embeddings().weight
    if embedding is not base.get_output_embeddings().weight:
        trained -= embedding.numel() * embedding.requires_grad
        frozen -= embedding.numel() * (not embedding.requires_grad)
    config = base.config.get_text_config()
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = 6 * config.num_hidden_layers * config.num_attention_heads * head_dim * seq_len
    return float(6 * trained + 4 * frozen + attention)


def peak_flops(device: torch.device) -> float | None:
    """Dense bfloat16 peak of a GPU in FLOP/s; None for a CPU and for GPUs that are not in the table."""
    if device.type != "cuda":
        return None
    return peak_of(torch.cuda.get_device_name(device))


def peak_of(device_name: str) -> float | None:
    """Dense bfloat16 peak of the GPU that calls itself `device_name`, e.g. `NVIDIA H200`."""
    words = device_name.replace("-", " ")
    return next((peak for name, peak in _DENSE_BF16_PEAKS.items() if f" {name} " in f" {words} "), None)
