"""The held-out loss: mean over the trained tokens of evaluation rows, or over the rows where the loss is one of whole
batches.

On many ranks each measures its own rows; sums and counts are added up in float64, so the result is one number
everywhere, and the same for any number of ranks but for the order of the additions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch

from genai.log import progress
from genai.training.interfaces import CountedBatch
from genai.training.parallel.strategy import OneRank, Strategy

if TYPE_CHECKING:
    from genai.data.batches import Batch
    from genai.training.interfaces import ModelLoss
    from genai.training.parallel.ranks import Ranks

BatchT = TypeVar("BatchT", bound=CountedBatch)


@dataclass(frozen=True, kw_only=True)
class EvalLoss:
    """Loss over a set of rows."""

    loss: float
    """Nats a trained token, or what a row costs."""
    num_tokens: int
    """Trained tokens (or rows) that were measured."""


def evaluate(
    model_loss: ModelLoss,
    batches: Iterable[Batch],
    *,
    should_stop: Callable[[], bool] = lambda: False,
    description: str = "evaluating",
    total: int | None = None,
) -> EvalLoss | None:
    """`evaluate_together` in this process alone: `batches` hold all rows, and the loss is one over tokens."""
    return evaluate_together(
        OneRank(model_loss), batches, should_stop=should_stop, description=description, total=total
    )


def evaluate_together(
    parallel: Strategy,
    batches: Iterable[CountedBatch],
    *,
    should_stop: Callable[[], bool] = lambda: False,
    description: str = "evaluating",
    total: int | None = None,
) -> EvalLoss | None:
    """Measure the loss; the model's training mode and all random streams are left as they were.

    Args:
        parallel: the loss and the ranks that measure it; all of them must call this.
        batches: evaluation batches, of this rank.
        should_stop: asked before each batch; True on any rank abandons the evaluation on all.
        total: number of batches, for the progress bar.

    Returns:
        The loss over the rows of all ranks, or None when it was abandoned or there is nothing to measure.
    """
    model, ranks = parallel.model_loss.model, parallel.ranks
    was_training = model.training
    model.eval()
    loss_sum, num_tokens = 0.0, 0
    try:
        with torch.no_grad(), progress(description, total) as task:
            for index, batch in enumerate(_in_step(batches, ranks, should_stop)):
                part_sum, part_tokens = parallel.measure(batch)
                loss_sum, num_tokens = loss_sum + part_sum, num_tokens + part_tokens
                task.update(index + 1)
    except _Abandoned:
        return None
    finally:
        model.train(was_training)
    if ranks.world_size > 1:
        loss_sum, total_tokens = ranks.sum([loss_sum, num_tokens])
        num_tokens = int(total_tokens)
    return EvalLoss(loss=loss_sum / num_tokens, num_tokens=num_tokens) if num_tokens else None


class _Abandoned(Exception):
    """A rank was asked to stop."""


def _in_step(batches: Iterable[BatchT], ranks: Ranks, should_stop: Callable[[], bool]) -> Iterator[BatchT | None]:
    """The batches of this rank, then None for as long as another rank has some."""
    waiting = iter(batches)
    while True:
        batch = next(waiting, None)
        there = batch is not None
        stop = there and should_stop()
        if ranks.world_size > 1:
            there, stop = map(bool, ranks.max([there, stop]))
        if stop:
            raise _Abandoned
        if not there:
            return
        yield batch
