"""The held-out loss is a mean over tokens, and measuring it leaves no trace."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from genai.data.batches import Batch, eval_batches
from genai.data.tokenized import TokenizedRows
from genai.training.evaluate import evaluate


class Uniform:
    """Every token costs as many nats as its id; dropout draws a random number, as a careless model would."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.model = nn.Dropout(0.5)
        self.modes: list[bool] = []

    def token_losses(self, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        self.modes.append(self.model.training)
        labels = tensors["labels"]
        return self.model(labels[labels >= 0].float())  # type: ignore[no-any-return]


ROWS = TokenizedRows.from_lists([[9, 1, 2, 3], [9, 4], [9, 5, 6]])


def batches(size: int = 2) -> Iterator[Batch]:
    return eval_batches(ROWS, max_seq_len=8, batch_size=size, pad_token_id=0)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_trained_token_weighs_the_same(size: int) -> None:
    model: Any = Uniform()
    result = evaluate(model, batches(size))
    assert result is not None
    assert result.num_tokens == 6
    assert result.loss == pytest.approx((1 + 2 + 3 + 4 + 5 + 6) / 6)


@pytest.mark.parametrize("training", [True, False])
def test_mode_and_random_streams_are_as_before(training: bool) -> None:
    model: Any = Uniform()
    model.model.train(training)
    before = torch.get_rng_state()
    evaluate(model, batches())
    assert model.modes == [False, False]
    assert model.model.training is training
    assert torch.equal(torch.get_rng_state(), before)


def test_the_mode_is_as_before_when_it_fails() -> None:
    class Fails(Uniform):
        def token_losses(self, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
            raise MemoryError

    model: Any = Fails()
    with pytest.raises(MemoryError):
        evaluate(model, batches())
    assert model.model.training


def test_it_can_be_abandoned() -> None:
    model: Any = Uniform()
    assert evaluate(model, batches(1), should_stop=lambda: len(model.modes) == 2) is None
    assert len(model.modes) == 2
    assert model.model.training


def test_nothing_trained_is_no_loss() -> None:
    rows = TokenizedRows.from_lists([[1, 2]], [[False, False]])
    model: Any = Uniform()
    assert evaluate(model, eval_batches(rows, max_seq_len=8, batch_size=1, pad_token_id=0)) is None


def test_sums_are_exact_over_many_tokens() -> None:
    lengths = [1000] * 30
    rows = TokenizedRows.from_lists([np.full(length, 7).tolist() for length in lengths])
    model: Any = Uniform()
    result = evaluate(model, eval_batches(rows, max_seq_len=1000, batch_size=1, pad_token_id=0))
    assert result is not None
    assert math.isclose(result.loss, 7.0, rel_tol=1e-12)
