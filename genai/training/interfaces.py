"""What the trainer asks of the two objects that it turns: where batches come from, and what a batch costs.

A stream is met by `genai.data.batches.BatchStream`, by the token streams of `genai.data` and by the pair stream of
`genai.embedding`. There are two kinds of losses:

    ModelLoss    a sum over tokens, so that a batch can be cut anywhere; met by `genai.training.forward.CausalLMLoss`
                 and by the native models' own
    BatchLoss    one number of a whole batch, in which every row counts for every other; met by the losses of
                 `genai.embedding`

What a batch holds is between a stream and a loss; the trainer itself reads its counts only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn


class CountedBatch(Protocol):
    """What the trainer reads of a batch; the counts are those of the global batch, the rows those of this rank."""

    @property
    def num_tokens(self) -> int:
        """Tokens that are no padding."""

    @property
    def num_trained_tokens(self) -> int:
        """What the loss is a mean over: tokens with a label, or rows."""

    @property
    def num_examples(self) -> int:
        """Examples in all rows, of all ranks."""

    @property
    def row_ids(self) -> tuple[tuple[int, ...], ...]:
        """For each row, the indices of its examples in the data."""

    @property
    def epoch(self) -> int:
        """Which pass over the data this batch belongs to, from 0."""

    @property
    def ends_epoch(self) -> bool:
        """Whether it is the last one of that pass."""


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

    def next_batch(self) -> CountedBatch:
        """The next batch, of the kind that the loss takes; no rows where there are fewer than ranks."""

    def state_dict(self) -> dict[str, Any]:
        """The position, as JSON can hold it; the same on every rank."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken, on any number of ranks."""


class TrainedLoss(Protocol):
    """A model and the loss that it is trained with, of either kind."""

    @property
    def model(self) -> nn.Module:
        """Its parameters with `requires_grad` are trained."""

    @property
    def device(self) -> torch.device:
        """Where the model lies."""


class ModelLoss(TrainedLoss, Protocol):
    """A loss that is a sum over tokens.

    Tensors are `input_ids`, `labels` and `position_ids`, int64 (batch, seq); labels are not shifted, -100 where
    nothing is trained.
    """

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


Gather = Callable[[torch.Tensor, Sequence[int]], torch.Tensor]
"""The rows of all ranks in the order of ranks, from this rank's own: (rows, ...) -> (B, ...). Takes how many rows each
rank has. No gradient goes through it. All ranks must call it, also one without rows, equally often and with tensors
that differ in the number of rows only."""


class BatchLoss(TrainedLoss, Protocol):
    """A loss over all rows of a global batch at once, such as one that tells each row from all others.

    The gradient of the global batch is exact although none goes through `Gather`: every rank computes the same loss
    over the vectors of all rows as leaves, and takes that loss's gradient at its own rows back through its own model;
    the parameters' gradients of all ranks are then summed.
    """

    def accumulate(self, batch: Any, microbatch_size: int, gather: Gather) -> float:
        """Add this rank's part of the gradient to the parameters' `.grad`.

        Args:
            batch: this rank's rows of a global batch, perhaps none.
            microbatch_size: rows a forward pass; the gradient does not depend on it.
            gather: brings the rows of all ranks together.

        Returns:
            This rank's part of the mean loss over the rows of the global batch: the parts of all ranks add up to it.
        """

    def measure(self, batch: Any, gather: Gather) -> tuple[float, int]:
        """Sum of the losses of this rank's rows, and how many they are; no graph is made.

        Args:
            batch: this rank's rows of a global batch, perhaps none.
            gather: brings the rows of all ranks together.
        """
