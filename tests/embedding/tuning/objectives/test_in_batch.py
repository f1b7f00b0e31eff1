from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from genai.embedding.tuning.interfaces import Embedded
from genai.embedding.tuning.objectives.in_batch import multiple_negatives_ranking

Check = Callable[..., float]
Make = Callable[..., Embedded]


class FixedGuide:
    """Answers with one table, (queries, passages)."""

    def __init__(self, table: Sequence[Sequence[float]]) -> None:
        self.table = torch.tensor(table)

    def similarity(self, pairs: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
        return self.table[pairs][:, passages]


def negative_log_share(own: float, others: Sequence[float]) -> float:
    values = np.array([own, *others])
    return float(np.log(np.exp(values - values.max()).sum()) + values.max() - own)


def reference(
    batch: Embedded, scale: float, *, symmetric: bool = False, left_out: set[tuple[int, int, int]] = frozenset()
) -> Callable[[Any, Any], float]:
    """Loop by loop; `left_out` holds (row, other row, place)."""
    passages = batch.passages.tolist()
    rows, ways = len(passages), len(passages[0])

    def loss(queries: Any, documents: Any) -> float:
        def score(row: int, other: int, place: int) -> float:
            return float(scale * queries[row] @ documents[other, place])

        def counts(row: int, other: int, place: int) -> bool:
            return passages[other][place] != passages[row][0] and (row, other, place) not in left_out

        total = 0.0
        for row in range(rows):
            others = [(other, place) for other in range(rows) for place in range(ways) if counts(row, other, place)]
            forward = negative_log_share(score(row, row, 0), [score(row, *where) for where in others])
            askers = [other for other in range(rows) if other != row and counts(other, row, 0)]
            backward = negative_log_share(score(row, row, 0), [score(other, row, 0) for other in askers])
            total += (forward + backward) / 2 if symmetric else forward
        return total / rows

    return loss


@pytest.mark.parametrize("negatives", [0, 1, 3])
@pytest.mark.parametrize("symmetric", [False, True])
def test_against_loops(make_batch: Make, check_loss: Check, negatives: int, symmetric: bool) -> None:
    batch = make_batch(negatives=negatives)
    found = check_loss(
        lambda each: multiple_negatives_ranking(each, scale=15.0, symmetric=symmetric),
        reference(batch, 15.0, symmetric=symmetric),
        batch,
    )
    assert found > 0.1


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_own_passage_elsewhere_is_no_negative(make_batch: Make, check_loss: Check, symmetric: bool) -> None:
    batch = make_batch(rows=4, negatives=1)
    plain = multiple_negatives_ranking(batch, scale=4.0, symmetric=symmetric)
    batch.passages[2, 1] = batch.passages[0, 0]  # a negative of row 2 is the positive of row 0
    batch.passages[3, 0] = batch.passages[1, 0]  # two queries have one answer
    found = check_loss(
        lambda each: multiple_negatives_ranking(each, scale=4.0, symmetric=symmetric),
        reference(batch, 4.0, symmetric=symmetric),
        batch,
    )
    assert found < plain.item() - 1e-3


def test_a_passage_that_is_nobodys_own_counts_each_time(make_batch: Make, check_loss: Check) -> None:
    batch = make_batch(rows=3, negatives=1)
    batch.passages[1, 1] = batch.passages[2, 1]
    check_loss(multiple_negatives_ranking, reference(batch, 20.0), batch)


@pytest.mark.parametrize("symmetric", [False, True])
def test_what_the_guide_takes_for_an_answer_is_left_out(make_batch: Make, check_loss: Check, symmetric: bool) -> None:
    batch = make_batch(rows=3, negatives=1, pairs=torch.tensor([2, 0, 1]))
    batch.passages.copy_(torch.tensor([[0, 1], [2, 3], [4, 5]]))
    guide = FixedGuide(
        [
            # of pair 0, which is row 1, whose own passage is 2
            [0.5, 0.1, 0.5, 0.9, 0.45, 0.2],
            # of pair 1, row 2, passage 4
            [0.1, 0.1, 0.1, 0.1, 0.8, 0.79],
            # of pair 2, row 0, passage 0
            [0.3, 0.2, 0.4, 0.1, 0.1, 0.29],
        ]
    )
    above = {(1, 1, 1), (0, 1, 0)}
    within = above | {(1, 0, 0), (1, 2, 0), (2, 2, 1), (0, 2, 1)}
    for margin, left_out in ((0.0, above), (0.06, within)):
        check_loss(
            lambda each, margin=margin: multiple_negatives_ranking(
                each, symmetric=symmetric, guide=guide, guide_margin=margin
            ),
            reference(batch, 20.0, symmetric=symmetric, left_out=left_out),
            batch,
        )


def test_a_single_row_costs_nothing(make_batch: Make) -> None:
    assert multiple_negatives_ranking(make_batch(rows=1, negatives=0), symmetric=True).item() == 0
