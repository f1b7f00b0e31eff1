"""What the trainer asks of the two objects that it turns: where batches come from, and what a batch costs.

A stream is met by `genai.data.batches.BatchStream` and by the token streams of `genai.data`; a loss by
`genai.training.forward.CausalLMLoss` and by the native models' own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

if TYPE_CHECKING:
    from genai.data.batches import Batch


class TrainStream(Protocol):
    """Training batches without end, epoch after epoch; every rank has its own, over the same global batches.

    A batch holds the rows of this rank, its counts of tokens and examples are those of the global batch. Which global
    batch comes next does not depend on the number of ranks.
    """

    @property
    def epoch(self) -> int:
        """The pass that the next batch belongs to, from 0."""

    @property
    def batch_in_epoch(self) -> int:
        """How many batches of this pass were given out."""

    def batches_in_epoch(self, epoch: int) -> int:
        """How many batches a pass has."""

    def next_batch(self) -> Batch:
        """The next batch; no rows where there are fewer than ranks."""

    def state_dict(self) -> dict[str, Any]:
        """The position, as JSON can hold it; the same on every rank."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken, on any number of ranks."""


class ModelLoss(Protocol):
    """A model and the loss that it is trained with.

    Tensors are `input_ids`, `labels` and `position_ids`, int64 (batch, seq); labels are not shifted, -100 where
    nothing is trained.
    """

    @property
    def model(self) -> nn.Module:
        """Its parameters with `requires_grad` are trained."""

    @property
    def device(self) -> torch.device:
        """Where the model lies."""

    def loss(self, tensors: Mapping[str, torch.Tensor], denominator: float) -> torch.Tensor:
        """The trained tokens' losses, summed and divided by `denominator`: a float32 scalar with a graph.

        Args:
            tensors: of one microbatch.
            denominator: trained tokens of the global batch, so that the losses of all microbatches of all ranks add up.
        """

    def token_losses(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Negative log-likelihood of each trained token, float32 (tokens,), without a graph."""

    def logits(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """All logits, (batch, seq, vocabulary)."""
