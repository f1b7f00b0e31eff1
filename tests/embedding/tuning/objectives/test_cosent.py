from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from genai.embedding.tuning.interfaces import Embedded
from genai.embedding.tuning.objectives.cosent import cosent
from genai.errors import UsageError

GRADES = torch.tensor([[3.0, 0.0], [5.0, 0.0], [3.0, 1.0], [0.0, 4.0]])


@pytest.mark.parametrize("negatives", [0, 1])
def test_against_loops(make_batch: Callable[..., Embedded], check_loss: Callable[..., float], negatives: int) -> None:
    grades = GRADES[:, : 1 + negatives]
    batch = make_batch(rows=4, negatives=negatives, labels=grades)

    def reference(queries: Any, documents: Any) -> float:
        cosines = [query @ document for query, own in zip(queries, documents, strict=True) for document in own]
        listed = list(zip(grades.flatten().tolist(), cosines, strict=True))
        terms = [np.exp(9 * (low - high)) for grade, high in listed for worse, low in listed if grade > worse]
        return float(np.log(1 + sum(terms)))

    assert check_loss(lambda each: cosent(each, scale=9.0), reference, batch) > 0.1


def test_equal_grades_cost_nothing(make_batch: Callable[..., Embedded]) -> None:
    batch = make_batch(negatives=0, labels=torch.ones(5, 1))
    batch.queries.requires_grad_()
    loss = cosent(batch)
    loss.backward()
    assert loss.item() == 0 and batch.queries.grad is not None and not batch.queries.grad.any()


def test_grades_are_needed(make_batch: Callable[..., Embedded]) -> None:
    with pytest.raises(UsageError, match=r"cosent learns from scores.*data\.columns"):
        cosent(make_batch())
