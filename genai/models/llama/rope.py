"""Rotary position embeddings (arXiv:2104.09864), with the ways of stretching them that Llama models use.

The tables are computed once, on the CPU in float32, and are no buffers: casting the model to another number format does
not touch them, and a model that came from the meta device has them all the same.

Shapes: B rows, S positions, H heads, D head size, F = D / 2 frequencies.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from genai.models.llama.config import LlamaConfig

_FIRST_TABLE = 4096
"""Rows of the first table, where the model allows that many; it grows when a longer row comes."""


def frequencies(config: LlamaConfig, seq_len: int) -> torch.Tensor:
    """Angle per position of each pair of channels, float32 (F,).

    Args:
        config: theta and scaling.
        seq_len: length of the longest row; matters for `dynamic` scaling only.

    Source: transformers 5.23, modeling_rope_utils.py, whose roundings are kept; `dynamic` is NTK-aware scaling, and
    `llama3` that of Llama 3.1's reference code.
    """
    scaling: dict[str, Any] = dict(config.rope_scaling or {})
    size, theta = config.head_size, config.rope_theta
    kind = scaling.get("rope_type")
    if kind == "dynamic" and seq_len > config.max_seq_len:
        grown = scaling["factor"] * seq_len / config.max_seq_len - (scaling["factor"] - 1)
        theta *= grown ** (size / (size - 2))
    plain_F = 1.0 / (theta ** (torch.arange(0, size, 2, dtype=torch.float32) / size))
    if kind == "linear":
        return plain_F / float(scaling["factor"])
    return _llama3(plain_F, scaling) if kind == "llama3" else plain_F


def _llama3(plain_F: torch.Tensor, scaling: dict[str, Any]) -> torch.Tensor:
    """Waves longer than the original context are stretched, short ones are not, those between in part."""
    factor, original = scaling["factor"], scaling["original_max_position_embeddings"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    wavelength_F = 2 * math.pi / plain_F
    smooth_F = (original / wavelength_F - low) / (high - low)
    between_F = (1 - smooth_F) * plain_F / factor + smooth_F * plain_F
    long_F, short_F = wavelength_F > original / low, wavelength_F < original / high
    return torch.where(long_F, plain_F / factor, torch.where(short_F, plain_F, between_F))


class Rotation:
    """The turn of each position of a batch, for queries and keys of every block.

    Neither tensor nor tuple: FSDP2's mixed precision casts every float tensor that it finds among a block's arguments,
    and in bfloat16 positions beyond a few hundred could no longer be told apart.

    Args:
        cos: float32, (S, 1, F) or (B, S, 1, F).
        sin: alike.
    """

    def __init__(self, cos: torch.Tensor, sin: torch.Tensor) -> None:
        self.cos = cos
        self.sin = sin

    def __call__(self, states_BSHD: torch.Tensor) -> torch.Tensor:
        """Turn channel i together with channel i + D/2 (transformers' order), in float32; (B, S, H, D) as it came."""
        first, second = states_BSHD.chunk(2, -1)
        turned = torch.cat((first * self.cos - second * self.sin, second * self.cos + first * self.sin), -1)
        return turned.to(states_BSHD.dtype)


class RopeTables:
    """Cosines and sines of a model's positions, kept on the device that asked last.

    Args:
        config: of the model.
    """

    def __init__(self, config: LlamaConfig) -> None:
        self._config = config
        self._tables: tuple[torch.Tensor, torch.Tensor] | None = None
        self._made_for: tuple[int, torch.device] | None = None

    def __call__(self, seq_len: int, position_ids_BS: torch.Tensor | None, device: torch.device) -> Rotation:
        """The rotation of rows of `seq_len` tokens.

        Args:
            seq_len: tokens a row.
            position_ids_BS: place of each token in its document, below `seq_len`; None for 0, 1, 2, ...
            device: where it is needed.
        """
        cos, sin = self._tables_for(self._longest(seq_len, position_ids_BS), device)
        if position_ids_BS is None:
            return Rotation(cos[:seq_len], sin[:seq_len])
        return Rotation(cos[position_ids_BS], sin[position_ids_BS])

    def _longest(self, seq_len: int, position_ids_BS: torch.Tensor | None) -> int:
        """Dynamic scaling depends on the longest document; asking a GPU for it is left to rows beyond the context."""
        dynamic = self._config.rope_scaling and self._config.rope_scaling["rope_type"] == "dynamic"
        if dynamic and seq_len > self._config.max_seq_len and position_ids_BS is not None:
            return int(position_ids_BS.max()) + 1
        return seq_len

    def _tables_for(self, longest: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        rows = max(longest, min(self._config.max_seq_len, _FIRST_TABLE))
        beyond = max(longest, self._config.max_seq_len)
        scaled_alike = self._made_for == (self._scaling_length(beyond), device)
        if self._tables is None or not scaled_alike or len(self._tables[0]) < longest:
            with torch.inference_mode(False):  # the tables outlive an evaluation that asks for them first
                angles_SF = torch.arange(rows, dtype=torch.float32)[:, None] * frequencies(self._config, beyond)
                self._tables = angles_SF.cos()[:, None].to(device), angles_SF.sin()[:, None].to(device)
            self._made_for = self._scaling_length(beyond), device
        return self._tables

    def _scaling_length(self, beyond: int) -> int:
        """What the frequencies depend on beside the config: nothing, but for dynamic scaling."""
        scaling = self._config.rope_scaling
        return beyond if scaling and scaling["rope_type"] == "dynamic" else 0
