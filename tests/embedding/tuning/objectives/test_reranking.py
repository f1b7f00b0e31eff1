import math

import pytest
import torch

from genai.embedding.tuning.objectives.reranking import binary_cross_entropy, listwise
from genai.errors import DataError, UsageError

SCORES = torch.tensor([[2.0, -1.0, 0.5], [-3.0, 4.0, 0.0]])


def log_sigmoid(value: float) -> float:
    return -math.log(1 + math.exp(-value))


@pytest.mark.parametrize("weight", [1.0, 2.5])
def test_binary_cross_entropy_against_loops(weight: float) -> None:
    expected = [
        -(weight * log_sigmoid(row[0]) + sum(log_sigmoid(-score) for score in row[1:])) / 3 for row in SCORES.tolist()
    ]
    assert binary_cross_entropy(SCORES, positive_weight=weight).tolist() == pytest.approx(expected, rel=1e-6)


def test_grades_take_the_place_of_yes_and_no() -> None:
    grades = torch.tensor([[0.25], [1.0]])
    expected = [-(0.25 * log_sigmoid(2.0) + 0.75 * log_sigmoid(-2.0)), -log_sigmoid(-3.0)]
    assert binary_cross_entropy(SCORES[:, :1], grades).tolist() == pytest.approx(expected, rel=1e-6)
    with pytest.raises(DataError, match=r"takes grades from 0 to 1, and one is 5 \(divide"):
        binary_cross_entropy(SCORES[:, :1], torch.tensor([[0.5], [5.0]]))


def test_listwise_against_loops() -> None:
    expected = [math.log(sum(map(math.exp, row))) - row[0] for row in SCORES.tolist()]
    assert listwise(SCORES).tolist() == pytest.approx(expected, rel=1e-6)


def test_negatives_are_needed() -> None:
    for loss in (binary_cross_entropy, listwise):
        with pytest.raises(UsageError, match=rf"loss\.name: {loss.__name__} compares a query's documents"):
            loss(SCORES[:, :1])
