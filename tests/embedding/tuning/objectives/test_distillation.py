from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from genai.embedding.tuning.interfaces import Embedded
from genai.embedding.tuning.objectives.distillation import distillation
from genai.errors import UsageError


def softmax(values: Any) -> Any:
    shares = np.exp(values - values.max())
    return shares / shares.sum()


@pytest.mark.parametrize("negatives", [1, 4])
def test_against_loops(make_batch: Callable[..., Embedded], check_loss: Callable[..., float], negatives: int) -> None:
    batch = make_batch(negatives=negatives, graded=True)
    assert batch.labels is not None
    labels = batch.labels.double().numpy()

    def reference(queries: Any, documents: Any) -> float:
        total = 0.0
        for query, own, label in zip(queries, documents, labels, strict=True):
            student, teacher = softmax(4 * own @ query), softmax(7 * label)
            total += float(np.sum(teacher * (np.log(teacher) - np.log(student))))
        return total / len(queries)

    assert check_loss(lambda each: distillation(each, scale=4.0, teacher_scale=7.0), reference, batch) > 0.05


def test_a_student_like_its_teacher_costs_nothing(make_batch: Callable[..., Embedded]) -> None:
    batch = make_batch()
    cosines = (batch.queries[:, None] * batch.documents).sum(-1)
    assert distillation(make_batch(labels=cosines + 1)).item() == pytest.approx(0, abs=1e-6)


def test_a_sure_teacher_gives_no_nan(make_batch: Callable[..., Embedded]) -> None:
    batch = make_batch(graded=True)
    assert batch.labels is not None
    loss = distillation(make_batch(labels=batch.labels * 1e4))
    assert 0 < loss.item() < 100


def test_what_it_needs(make_batch: Callable[..., Embedded]) -> None:
    with pytest.raises(UsageError, match="distillation learns from scores"):
        distillation(make_batch())
    with pytest.raises(UsageError, match=r"each has only one \(set hard_negatives"):
        distillation(make_batch(negatives=0, graded=True))
