"""One step's gradient does not depend on how the batch is cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from genai.data.batches import Batch
from genai.training.step import accumulate_gradients, microbatches

CPU = torch.device("cpu")


def make_batch(trained: list[list[bool]]) -> Batch:
    """Rows of token ids 1, 2, 3, ... with labels where `trained` says so."""
    flags = np.array(trained)
    ids = np.arange(1, flags.size + 1).reshape(flags.shape)
    labels = np.where(flags, ids, -100)
    return Batch(
        input_ids=ids,
        labels=labels,
        position_ids=np.tile(np.arange(flags.shape[1]), (len(flags), 1)),
        num_tokens=flags.size,
        num_trained_tokens=int(flags.sum()),
        num_examples=len(flags),
        row_ids=tuple((index,) for index in range(len(flags))),
    )


class Regression:
    """A loss whose gradient can be written down: the mean of the trained token ids."""

    device = CPU

    def __init__(self) -> None:
        self.weight = nn.Parameter(torch.zeros(()))
        self.pieces: list[list[int]] = []

    def loss(self, tensors: dict[str, torch.Tensor], denominator: float) -> torch.Tensor:
        self.pieces.append(tensors["input_ids"][:, 0].tolist())
        ids = tensors["labels"][tensors["labels"] >= 0].float()
        return (self.weight * ids + 1).sum() / denominator


UNEQUAL = [
    [False, True, True, True],
    [False, False, False, True],
    [False, False, False, False],
    [False, True, True, False],
]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
def test_the_gradient_is_that_of_the_whole_batch(size: int) -> None:
    batch = make_batch(UNEQUAL)
    model: Any = Regression()
    loss = accumulate_gradients(model, batch, microbatch_size=size)
    ids = batch.labels[batch.labels >= 0]
    assert loss == pytest.approx(1.0)
    assert model.weight.grad.item() == pytest.approx(ids.sum() / len(ids))


def test_gradients_are_added_to_what_is_there() -> None:
    model: Any = Regression()
    for _ in range(2):
        accumulate_gradients(model, make_batch([[False, True]]), microbatch_size=1)
    assert model.weight.grad.item() == 4.0


def test_rows_without_a_trained_token_cost_nothing() -> None:
    model: Any = Regression()
    accumulate_gradients(model, make_batch(UNEQUAL), microbatch_size=1)
    assert model.pieces == [[1], [5], [13]]


def test_a_batch_without_a_trained_token_has_no_loss_and_no_gradient() -> None:
    model: Any = Regression()
    assert accumulate_gradients(model, make_batch([[False, False]]), microbatch_size=1) == 0.0
    assert model.weight.grad is None


def test_pieces_hold_all_arrays_of_their_rows() -> None:
    batch = make_batch([[False, True], [False, True], [False, True]])
    pieces = list(microbatches(batch, 2, CPU))
    assert [piece["input_ids"].tolist() for piece in pieces] == [[[1, 2], [3, 4]], [[5, 6]]]
    assert [piece["labels"].tolist() for piece in pieces] == [[[-100, 2], [-100, 4]], [[-100, 6]]]
    assert all(piece["position_ids"].dtype == torch.int64 for piece in pieces)
