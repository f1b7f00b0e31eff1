from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from genai.embedding.tuning.interfaces import Embedded
from genai.embedding.tuning.objectives.in_batch import multiple_negatives_ranking
from genai.embedding.tuning.objectives.matryoshka import Matryoshka
from genai.errors import UsageError

Make = Callable[..., Embedded]


def unit(values: Any) -> Any:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("dimensions", "weights", "expected"),
    [
        ([4, 2], None, {6: 1.0, 4: 1.0, 2: 1.0}),
        ([6, 3], [0.5, 2.0], {6: 0.5, 3: 2.0}),
        ([3], [2.0], {6: 1.0, 3: 2.0}),
        ([6, 3], [0.0, 1.0], {3: 1.0}),
    ],
)
def test_a_weighted_sum_over_prefixes_of_length_1(
    make_batch: Make,
    check_loss: Callable[..., float],
    dimensions: Sequence[int],
    weights: Sequence[float] | None,
    expected: dict[int, float],
) -> None:
    batch = make_batch(rows=4, negatives=1, width=6)

    def reference(queries: Any, documents: Any) -> float:
        total = 0.0
        for dimension, weight in expected.items():
            # whole vectors are of length 1 already, and are taken as they are
            cut = (
                (lambda values: values) if dimension == 6 else (lambda values, size=dimension: unit(values[..., :size]))
            )
            scores = 20 * cut(queries) @ cut(documents).reshape(8, -1).T
            shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
            total += weight * float(np.mean([-np.log(shares[row, 2 * row]) for row in range(4)]))
        return total

    loss = Matryoshka(multiple_negatives_ranking, dimensions=dimensions, weights=weights)
    assert check_loss(loss, reference, batch) > 0.1


def test_longer_than_the_vectors(make_batch: Make) -> None:
    loss = Matryoshka(multiple_negatives_ranking, dimensions=[3, 7])
    with pytest.raises(UsageError, match=r"matryoshka\.dimensions: the vectors have 6 numbers, 7 are asked for"):
        loss(make_batch(width=6))


@pytest.mark.parametrize(
    ("dimensions", "weights", "message"),
    [
        ([4, 2], [1.0], r"matryoshka\.weights: there are 1 weights for 2 dimensions"),
        ([4, 4], None, "a dimension is named twice"),
        ([4, 2], [0.0, 0.0], "all weights are 0"),
    ],
)
def test_what_cannot_be(dimensions: Sequence[int], weights: Sequence[float] | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Matryoshka(multiple_negatives_ranking, dimensions=dimensions, weights=weights)
