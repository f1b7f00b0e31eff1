"""The held-out loss: mean negative log-likelihood of the trained tokens of evaluation rows.

On many ranks each measures its own rows; sums and counts are added up in float64, so the result is one number
everywhere, and the same for any number of ranks but for the order of the additions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from genai.log import progress
from genai.training.step import microbatches

if TYPE_CHECKING:
    from genai.data.batches import Batch
    from genai.training.interfaces import ModelLoss
    from genai.training.parallel.ranks import Ranks


class Together(Protocol):
    """The ranks that evaluate together; met by the strategies of `genai.training.parallel`."""

    @property
    def ranks(self) -> Ranks:
        """Who takes part."""

    @property
    def in_step(self) -> bool:
        """Whether every rank must make equally many forward passes."""

    def empty_pass(self, *, training: bool) -> None:
        """A pass that measures nothing."""


@dataclass(frozen=True, kw_only=True)
class EvalLoss:
    """Loss over a set of rows."""

    loss: float
    """Nats a trained token."""
    num_tokens: int
    """Trained tokens that were measured."""


def evaluate(
    model_loss: ModelLoss,
    batches: Iterable[Batch],
    *,
    together: Together | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    description: str = "evaluating",
    total: int | None = None,
) -> EvalLoss | None:
    """Measure the loss; the model's training mode and all random streams are left as they were.

    Args:
        model_loss: the forward pass.
        batches: evaluation batches, of this rank; each is one forward pass.
        together: the other ranks; all of them must call this. None: these are all rows.
        should_stop: asked before each batch; True on any rank abandons the evaluation on all.
        total: number of batches, for the progress bar.

    Returns:
        The loss over the rows of all ranks, or None when it was abandoned or no token is trained.
    """
    model = model_loss.model
    was_training = model.training
    model.eval()
    loss_sum, num_tokens = 0.0, 0
    try:
        with torch.no_grad(), progress(description, total) as task:
            for index, batch in enumerate(_in_step(batches, together, should_stop)):
                part_sum, part_tokens = _measure(model_loss, batch, together)
                loss_sum, num_tokens = loss_sum + part_sum, num_tokens + part_tokens
                task.update(index + 1)
    except _Abandoned:
        return None
    finally:
        model.train(was_training)
    if together is not None and together.ranks.world_size > 1:
        loss_sum, total_tokens = together.ranks.sum([loss_sum, num_tokens])
        num_tokens = int(total_tokens)
    return EvalLoss(loss=loss_sum / num_tokens, num_tokens=num_tokens) if num_tokens else None


def _measure(model_loss: ModelLoss, batch: Batch | None, together: Together | None) -> tuple[float, int]:
    """Sum of the losses and number of the tokens of a batch; nothing where this rank has none left."""
    if batch is not None:
        for piece in microbatches(batch, max(1, len(batch.input_ids)), model_loss.device):
            # The count of the batch is that of all ranks.
            num_tokens = int((batch.labels >= 0).sum())
            return float(model_loss.token_losses(piece).sum(dtype=torch.float64)), num_tokens
    if together is not None and together.in_step:
        together.empty_pass(training=False)
    return 0.0, 0


class _Abandoned(Exception):
    """A rank was asked to stop."""


def _in_step(
    batches: Iterable[Batch], together: Together | None, should_stop: Callable[[], bool]
) -> Iterator[Batch | None]:
    """The batches of this rank, then None for as long as another rank has some."""
    ranks = None if together is None or together.ranks.world_size == 1 else together.ranks
    waiting = iter(batches)
    while True:
        batch = next(waiting, None)
        there = batch is not None
        stop = there and should_stop()
        if ranks is not None:
            there, stop = map(bool, ranks.max([there, stop]))
        if stop:
            raise _Abandoned
        if not there:
            return
        yield batch
