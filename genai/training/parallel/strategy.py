"""How the ranks share the work of a step. This module is the simplest way: one rank does all of it.

    OneRank           nothing is shared; also the base of the next three
    DataParallel      every rank holds the whole model (ddp.py)
    FullyShard        every rank holds a part of each weight (fsdp.py)
    TensorParallel    neighbours compute each product together (tensor.py)
    WholeBatches      as DataParallel, for a loss over all rows of all ranks at once (whole_batch.py)

The trainer asks a strategy for the gradient of a batch, to make that gradient the global one, and for the loss of a
batch that is not trained on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_value_, clip_grads_with_norm_, get_total_norm

from genai.errors import GenaiError
from genai.training.interfaces import ModelLoss, TrainedLoss
from genai.training.parallel.ranks import Ranks
from genai.training.parallel.sharded_tensors import is_sharded, whole
from genai.training.random_state import random_state, restore_random_state
from genai.training.step import accumulate_gradients, microbatches

if TYPE_CHECKING:
    from genai.data.batches import Batch

_NO_MEMORY = "the GPU has too little memory for {}"


class Strategy(ABC):
    """What the trainer asks of the ranks.

    Batches are of the kind that the loss takes.

    Args:
        model_loss: of this rank.
        ranks: who takes part; None for one process.
    """

    model_loss: TrainedLoss
    in_step = False
    """Whether the ranks meet in every forward pass, so that all must make equally many."""
    less_memory = "lower max_seq_len, set activation_checkpointing: true, or train an adapter"
    """What a user can do when not even one row fits."""

    def __init__(self, model_loss: TrainedLoss, ranks: Ranks | None = None) -> None:
        self.model_loss = model_loss
        self.ranks = ranks or Ranks(device=model_loss.device)

    @abstractmethod
    def accumulate(self, batch: Any, microbatch_size: int) -> float:
        """Add this rank's part of the gradient to the parameters' `.grad`.

        Returns:
            This rank's part of the mean loss over the trained tokens (or the rows) of the global batch, in nats.
        """

    @abstractmethod
    def measure(self, batch: Any) -> tuple[float, int]:
        """Sum of the losses of this rank's tokens (or rows) and how many they are; no graph is made.

        Args:
            batch: rows that are not trained on; None where only other ranks have some left.
        """

    @abstractmethod
    def reduce_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Make every `.grad` the sum over all ranks."""

    def accumulate_what_fits(self, batch: Any, microbatch_size: int) -> tuple[float, int]:
        """`accumulate`; where a GPU runs out of memory, again with half the microbatch and the same dropout.

        Returns:
            The loss as `accumulate` gives it, and the microbatch size that it was made with.

        Raises:
            GenaiError: not even one row fits.
        """
        while True:
            state = random_state()
            try:
                return self.accumulate(batch, microbatch_size), microbatch_size
            except torch.cuda.OutOfMemoryError as error:
                if self.in_step:
                    # The other ranks are in the middle of a pass that this one left.
                    fix = "lower device_train_microbatch_size, or set activation_checkpointing: true"
                    raise GenaiError(_NO_MEMORY.format(f"{microbatch_size} rows"), fix=fix) from error
                if microbatch_size == 1:
                    raise GenaiError(_NO_MEMORY.format("one row"), fix=self.less_memory) from error
            # All that the optimizer trains is the model's, so this clears the half-made gradient.
            self.model_loss.model.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            restore_random_state(state)
            microbatch_size = max(1, microbatch_size // 2)


class OneRank(Strategy):
    """One process with the whole model, and a loss over tokens.

    Args:
        model_loss: of this rank.
        ranks: who takes part.
    """

    model_loss: ModelLoss

    def __init__(self, model_loss: ModelLoss, ranks: Ranks | None = None) -> None:
        super().__init__(model_loss, ranks)

    def accumulate(self, batch: Batch, microbatch_size: int) -> float:
        """See `Strategy.accumulate`."""
        return accumulate_gradients(self.model_loss, batch, microbatch_size=microbatch_size)

    def measure(self, batch: Batch | None) -> tuple[float, int]:
        """See `Strategy.measure`; one forward pass."""
        if batch is not None:
            for piece in microbatches(batch, max(1, len(batch.input_ids)), self.model_loss.device):
                # The count of the batch is that of all ranks.
                num_tokens = int((batch.labels >= 0).sum())
                return float(self.model_loss.token_losses(piece).sum(dtype=torch.float64)), num_tokens
        self.empty_pass(training=False)
        return 0.0, 0

    def reduce_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """See `Strategy.reduce_gradients`; they are already."""

    def empty_pass(self, *, training: bool) -> None:
        """A forward pass (in training also a backward one) that adds nothing, for ranks that have fewer rows."""


def total_norm(parameters: Sequence[nn.Parameter]) -> torch.Tensor:
    """The L2 norm of the whole gradient, of all ranks' parts where weights are sharded; a scalar."""
    plain, sharded = _by_kind(parameters)
    # That of sharded gradients is a DTensor whose ranks hold one addend each.
    norms = [whole(get_total_norm([p.grad for p in kind if p.grad is not None])) for kind in (plain, sharded) if kind]
    return get_total_norm(norms) if len(norms) > 1 else norms[0]


def _by_kind(parameters: Sequence[nn.Parameter]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Plain parameters and sharded ones: torch's loops over many tensors take no mixture."""
    return [p for p in parameters if not is_sharded(p)], [p for p in parameters if is_sharded(p)]


def clip(parameters: Sequence[nn.Parameter], clipping_type: str | None, threshold: float) -> float:
    """Limit the gradient; returns its norm before that.

    Args:
        parameters: those that are trained.
        clipping_type: `norm`: scale the whole gradient; `value`: cut each entry; None: only measure.
        threshold: the limit.
    """
    norm = total_norm(parameters)
    for kind in _by_kind(parameters):
        if kind and clipping_type == "value":
            clip_grad_value_(kind, threshold)
        elif kind and clipping_type == "norm":
            clip_grads_with_norm_(kind, threshold, norm)
    return float(norm)
