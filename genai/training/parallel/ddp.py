"""Data parallel: every rank holds the whole model and sees its own rows; gradients are summed once a batch.

Why not torch's DistributedDataParallel. It wraps a module whose `forward` is the way in, counts on one backward pass
of every parameter on every rank, and takes the mean. Here the loss calls the decoder itself; a rank may have no trained
token at all in a batch; a GPU out of memory repeats its microbatches in smaller pieces; and the sum is wanted. One sum
over flat buckets when all that is done is exact in each of these cases, at the price of not hiding the transfer behind
the last backward pass. Where that price counts, the model is large, and `fsdp2` overlaps both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import nn

from genai.training.parallel.ranks import Ranks
from genai.training.parallel.sharded_tensors import local_part
from genai.training.parallel.strategy import OneRank

BUCKET_ELEMENTS = 1 << 24
"""Elements summed at a time (64 MiB in float32): large enough to use the network, small beside the gradient itself."""


class DataParallel(OneRank):
    """Whole models on all ranks; see the module. Only what is trained is summed, so adapters cost next to nothing."""

    group: dist.ProcessGroup | None = None
    """The ranks that hold the same weights; None for all."""

    def reduce_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """See `sum_gradients`."""
        sum_gradients(parameters, self.ranks, self.group)


def sum_gradients(parameters: Sequence[nn.Parameter], ranks: Ranks, group: dist.ProcessGroup | None = None) -> None:
    """Sum every gradient over the ranks; one that no rank has stays away, as it would in one process.

    Args:
        parameters: those that are trained, in the same order on every rank.
        ranks: who takes part.
        group: the ranks that hold the same weights; None for all.
    """
    if ranks.data_world_size == 1:
        return
    present = ranks.max([int(p.grad is not None) for p in parameters])
    used = [p for p, is_present in zip(parameters, present, strict=True) if is_present]
    for parameter in used:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for bucket in _buckets([local_part(p.grad) for p in used if p.grad is not None]):
        _sum_bucket(bucket, group)


def _sum_bucket(gradients: list[torch.Tensor], group: dist.ProcessGroup | None) -> None:
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat, group=group)
    parts = flat.split([gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)])


def _buckets(gradients: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Neighbours of one dtype, about BUCKET_ELEMENTS together: the same cut on every rank."""
    bucket: list[torch.Tensor] = []
    elements = 0
    for gradient in gradients:
        if bucket and (bucket[0].dtype != gradient.dtype or elements + gradient.numel() > BUCKET_ELEMENTS):
            yield bucket
            bucket, elements = [], 0
        bucket.append(gradient)
        elements += gradient.numel()
    if bucket:
        yield bucket
