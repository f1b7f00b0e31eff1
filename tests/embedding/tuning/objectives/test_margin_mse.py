from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from genai.embedding.tuning.interfaces import Embedded
from genai.embedding.tuning.objectives.margin_mse import margin_mse
from genai.errors import UsageError


@pytest.mark.parametrize("negatives", [1, 3])
def test_against_loops(make_batch: Callable[..., Embedded], check_loss: Callable[..., float], negatives: int) -> None:
    batch = make_batch(negatives=negatives, graded=True)
    assert batch.labels is not None
    labels = batch.labels.double().numpy()

    def reference(queries: Any, documents: Any) -> float:
        errors = [
            3 * (query @ own[0] - query @ own[place]) - (label[0] - label[place])
            for query, own, label in zip(queries, documents, labels, strict=True)
            for place in range(1, 1 + negatives)
        ]
        return float(np.mean(np.square(errors)))

    assert check_loss(lambda each: margin_mse(each, scale=3.0), reference, batch) > 0.1


def test_a_constant_of_the_teacher_changes_nothing(make_batch: Callable[..., Embedded]) -> None:
    batch = make_batch(graded=True)
    assert batch.labels is not None
    shifted = make_batch(labels=batch.labels + 5)
    assert margin_mse(shifted).item() == pytest.approx(margin_mse(batch).item(), rel=1e-4)


def test_what_it_needs(make_batch: Callable[..., Embedded]) -> None:
    with pytest.raises(UsageError, match=r"loss\.name: margin_mse learns from scores, but the pairs have none"):
        margin_mse(make_batch())
    with pytest.raises(UsageError, match="compares a query's documents, but each has only one"):
        margin_mse(make_batch(negatives=0, graded=True))
