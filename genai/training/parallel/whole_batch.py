"""Data parallel for a loss over a whole batch: every rank sees the vectors of all rows, and trains on its own.

A contrastive loss tells each row from all others of the global batch, so it cannot be cut into microbatches from
outside, nor into the rows of each rank. What the ranks exchange are vectors, without a gradient, and with them each
computes the whole loss alike; see `genai.training.interfaces.BatchLoss` for why the sum of what they take back through
their own models is the gradient of that loss. Averaged gradients, or vectors of own rows only, are not: the tests of
this module do both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from genai.training.interfaces import BatchLoss
from genai.training.parallel.ddp import sum_gradients
from genai.training.parallel.ranks import Ranks
from genai.training.parallel.strategy import Strategy


def share_whole_batches(loss: BatchLoss, ranks: Ranks) -> WholeBatches:
    """The strategy of a loss over whole batches, for one rank or many; all must have built the same model.

    Args:
        loss: of this rank.
        ranks: who takes part.
    """
    return WholeBatches(loss, ranks)


class WholeBatches(Strategy):
    """Whole models on all ranks, and a loss over all their rows; see the module."""

    model_loss: BatchLoss
    less_memory = "lower model.max_tokens or global_train_batch_size, or train an adapter (model.peft_config)"

    def __init__(self, loss: BatchLoss, ranks: Ranks) -> None:
        super().__init__(loss, ranks)

    def accumulate(self, batch: Any, microbatch_size: int) -> float:
        """See `Strategy.accumulate`.

        Raises:
            torch.cuda.OutOfMemoryError: on every rank, when it happened on any: they must begin again together.
        """
        try:
            loss = self.model_loss.accumulate(batch, microbatch_size, self._gather)
        except _OutOfMemoryElsewhere:
            raise
        except torch.cuda.OutOfMemoryError:
            # The others wait for this rank's rows, or for its word that it is through.
            self._any_out_of_memory(True)
            raise
        self._go_on_together()
        return loss

    def measure(self, batch: Any) -> tuple[float, int]:
        """See `Strategy.measure`; every rank must have equally many batches, some of them perhaps without rows."""
        if batch is None:
            raise ValueError(f"rank {self.ranks.rank} has fewer batches than another rank")
        return self.model_loss.measure(batch, self._gather)

    def reduce_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """See `Strategy.reduce_gradients`."""
        sum_gradients(parameters, self.ranks)

    def _gather(self, rows: torch.Tensor, rows_by_rank: Sequence[int]) -> torch.Tensor:
        """See `genai.training.interfaces.Gather`."""
        if self.ranks.world_size == 1:
            return rows.detach()
        return gather_rows(rows, rows_by_rank, self.ranks, before=self._go_on_together)

    def _go_on_together(self) -> None:
        if self._any_out_of_memory(False):
            raise _OutOfMemoryElsewhere("another rank ran out of memory")

    def _any_out_of_memory(self, here: bool) -> bool:
        return self.ranks.world_size > 1 and bool(self.ranks.max([int(here)])[0])


class _OutOfMemoryElsewhere(torch.cuda.OutOfMemoryError):
    """What the other ranks raise."""


def gather_rows(
    rows: torch.Tensor, rows_by_rank: Sequence[int], ranks: Ranks, *, before: Callable[[], None] = lambda: None
) -> torch.Tensor:
    """The rows of all ranks, by rank, without a graph; they need not be equally many.

    Args:
        rows: of this rank, (rows, ...); on the device that the ranks' collectives are for.
        rows_by_rank: how many each rank has.
        ranks: who takes part; all must call this.
        before: called when this rank has the memory that it takes.

    Returns:
        (sum of rows_by_rank, ...)
    """
    if len(rows_by_rank) != ranks.world_size or rows_by_rank[ranks.rank] != len(rows):
        raise ValueError(f"rank {ranks.rank} has {len(rows)} rows, the batch says {list(rows_by_rank)}")
    shape = (max(rows_by_rank), *rows.shape[1:])
    padded = rows.new_zeros(shape)
    padded[: len(rows)] = rows.detach()
    found = [torch.empty_like(padded) for _ in rows_by_rank]
    before()
    dist.all_gather(found, padded)
    return torch.cat([part[:count] for part, count in zip(found, rows_by_rank, strict=True)])
