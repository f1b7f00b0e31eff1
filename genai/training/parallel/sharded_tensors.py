"""Tensors of which every rank may hold a part (DTensor), beside plain ones; told apart without importing DTensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from genai.training.parallel.ranks import Ranks


def is_sharded(tensor: torch.Tensor) -> bool:
    """Whether `tensor` is a DTensor."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor of which `tensor` is this rank's part, a plain one as it is. All ranks must call it."""
    sharded: Any = tensor
    full: torch.Tensor = sharded.full_tensor() if is_sharded(tensor) else tensor
    return full


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """What this rank holds of `tensor`, sharing its memory."""
    sharded: Any = tensor
    local: torch.Tensor = sharded.to_local() if is_sharded(tensor) else tensor
    return local


def gather(tensors: Mapping[str, torch.Tensor], ranks: Ranks) -> dict[str, torch.Tensor]:
    """All tensors whole, on rank 0; elsewhere none. Sharded ones are brought to the CPU one at a time, plain ones stay
    as they are. All ranks must call it.
    """
    found = {}
    for name, tensor in tensors.items():
        full = whole(tensor)
        if ranks.is_main:
            found[name] = full.cpu().contiguous() if is_sharded(tensor) else tensor
    return found


def whole_state_dict(model: nn.Module, ranks: Ranks) -> dict[str, torch.Tensor]:
    """All weights and buffers of a model that may be sharded, as its unsharded twin loads them; on rank 0.

    All ranks must call it, outside of a forward pass.
    """
    return gather({name: tensor.detach() for name, tensor in model.state_dict().items()}, ranks)


@torch.no_grad()
def assign(target: torch.Tensor, content: torch.Tensor) -> None:
    """Set `target` to the whole tensor `content`, of which a sharded target takes its part; nothing is sent."""
    if is_sharded(target):
        from torch.distributed.tensor import distribute_tensor

        sharded: Any = target
        place = sharded.device_mesh, sharded.placements
        content = distribute_tensor(content.to(target.device), *place, src_data_rank=None)
    target.copy_(content)
