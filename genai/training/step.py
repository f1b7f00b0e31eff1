"""One optimizer step's gradient, summed over microbatches.

The loss of a microbatch is the sum over its trained tokens divided by the trained tokens of the *whole* batch, so the
gradient does not depend on how the batch is cut (the fault behind transformers #34191: a mean per microbatch weighs
short answers more).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from genai.data.batches import Batch
    from genai.training.interfaces import ModelLoss

BatchTensors = dict[str, torch.Tensor]
"""input_ids, labels, position_ids: each int64 (microbatch, seq)."""


def microbatches(batch: Batch, microbatch_size: int, device: torch.device) -> Iterator[BatchTensors]:
    """Cut a batch along its rows and move each piece to `device`; pieces without a trained token are left out.

    Args:
        batch: arrays of shape (batch, seq).
        microbatch_size: rows a piece; the last piece may be smaller.
    """
    for rows in _pieces(batch, microbatch_size):
        pieces = {
            "input_ids": batch.input_ids[rows],
            "labels": batch.labels[rows],
            "position_ids": batch.position_ids[rows],
        }
        yield {name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in pieces.items()}


def count_microbatches(batch: Batch, microbatch_size: int) -> int:
    """How many pieces `microbatches` cuts."""
    return sum(1 for _ in _pieces(batch, microbatch_size))


def accumulate_gradients(model_loss: ModelLoss, batch: Batch, *, microbatch_size: int) -> float:
    """Add the gradient of one batch to the parameters' `.grad`.

    Args:
        model_loss: the forward pass.
        batch: all rows of a global batch, or those of this rank; its count of trained tokens is the global one.
        microbatch_size: rows a forward pass.

    Returns:
        The sum of the losses of these rows over the global batch's trained tokens, in nats: the mean loss where these
        are all rows.
    """
    total: torch.Tensor | None = None
    for piece in microbatches(batch, microbatch_size, model_loss.device):
        loss = model_loss.loss(piece, denominator=float(batch.num_trained_tokens))
        loss.backward()
        total = loss.detach() if total is None else total + loss.detach()
    return 0.0 if total is None else float(total)


def _pieces(batch: Batch, microbatch_size: int) -> Iterator[slice]:
    for start in range(0, len(batch.input_ids), microbatch_size):
        rows = slice(start, start + microbatch_size)
        if (batch.labels[rows] >= 0).any():
            yield rows
