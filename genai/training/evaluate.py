"""The held-out loss: mean negative log-likelihood of the trained tokens of evaluation rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from genai.log import progress
from genai.training.step import microbatches

if TYPE_CHECKING:
    from genai.data.batches import Batch
    from genai.training.forward import CausalLMLoss


@dataclass(frozen=True, kw_only=True)
class EvalLoss:
    """Loss over a set of rows."""

    loss: float
    """Nats a trained token."""
    num_tokens: int
    """Trained tokens that were measured."""


def evaluate(
    model_loss: CausalLMLoss,
    batches: Iterable[Batch],
    *,
    should_stop: Callable[[], bool] = lambda: False,
    description: str = "evaluating",
    total: int | None = None,
) -> EvalLoss | None:
    """Measure the loss; the model's training mode and all random streams are left as they were.

    Args:
        model_loss: the forward pass.
        batches: evaluation batches; each is one forward pass.
        should_stop: asked before each batch; True abandons the evaluation.
        total: number of batches, for the progress bar.

    Returns:
        The loss, or None when it was abandoned or no token is trained.
    """
    model = model_loss.model
    was_training = model.training
    model.eval()
    loss_sum, num_tokens = 0.0, 0
    try:
        with torch.no_grad(), progress(description, total) as task:
            for index, batch in enumerate(batches):
                if should_stop():
                    return None
                for piece in microbatches(batch, len(batch.input_ids), model_loss.device):
                    losses = model_loss.token_losses(piece)
                    loss_sum += float(losses.sum(dtype=torch.float64))
                    num_tokens += batch.num_trained_tokens
                task.update(index + 1)
    finally:
        model.train(was_training)
    return EvalLoss(loss=loss_sum / num_tokens, num_tokens=num_tokens) if num_tokens else None
