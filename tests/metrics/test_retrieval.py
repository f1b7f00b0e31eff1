"""Against values computed by hand and against the definitions written down another way, with numpy."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from genai.errors import UsageError
from genai.metrics.retrieval import (
    hit_rate_at_k,
    map_at_k,
    mrr_at_k,
    ndcg_at_k,
    parse_metric,
    precision_at_k,
    recall_at_k,
)

RANKED = ["d", "a", "x", "b", "y"]
RELEVANT = {"a", "b", "c"}


def test_measures_of_a_small_ranking_by_hand() -> None:
    assert recall_at_k(RANKED, RELEVANT, 2) == pytest.approx(1 / 3)
    assert recall_at_k(RANKED, RELEVANT, 10) == pytest.approx(2 / 3)
    assert precision_at_k(RANKED, RELEVANT, 4) == 0.5
    assert precision_at_k(RANKED, RELEVANT, 10) == 0.2  # five places are empty
    assert hit_rate_at_k(RANKED, RELEVANT, 1) == 0
    assert hit_rate_at_k(RANKED, RELEVANT, 2) == 1
    assert mrr_at_k(RANKED, RELEVANT, 10) == 0.5
    assert mrr_at_k(RANKED, RELEVANT, 1) == 0
    assert map_at_k(RANKED, RELEVANT, 10) == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert map_at_k(RANKED, RELEVANT, 2) == pytest.approx((1 / 2) / 2)


def test_ndcg_by_hand() -> None:
    gained = 1 / math.log2(3) + 1 / math.log2(5)
    best = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert ndcg_at_k(RANKED, RELEVANT, 5) == pytest.approx(gained / best)


def test_graded_ndcg_of_a_published_example() -> None:
    # Järvelin and Kekäläinen's example, as in the encyclopaedias: grades 3 2 3 0 1 2, and 3 and 2 not found
    ranked = [f"d{number}" for number in range(1, 7)]
    grades = dict(zip([*ranked, "d7", "d8"], [3, 2, 3, 0, 1, 2, 3, 2], strict=True))
    assert ndcg_at_k(ranked, grades, 6) == pytest.approx(0.785, abs=5e-4)


def test_a_single_answer_is_worth_its_discounted_rank() -> None:
    for rank in range(1, 11):
        ranked = [f"x{number}" for number in range(1, rank)] + ["answer"]
        assert ndcg_at_k(ranked, ["answer"], 10) == pytest.approx(1 / math.log2(rank + 1))
    assert ndcg_at_k(["x"] * 10 + ["answer"], ["answer"], 10) == 0


def test_grades_of_zero_are_not_relevant() -> None:
    assert recall_at_k(["a", "b"], {"a": 1, "b": 0}, 2) == 1
    assert precision_at_k(["a", "b"], {"a": 1, "b": 0}, 2) == 0.5
    with pytest.raises(ValueError, match="no document is relevant"):
        recall_at_k(["a"], {"a": 0}, 1)
    with pytest.raises(ValueError, match="no document is relevant"):
        ndcg_at_k(["a"], [], 1)


def test_an_empty_ranking_scores_nothing() -> None:
    for name in ("recall@5", "precision@5", "hit_rate@5", "mrr@5", "map@5", "ndcg@5"):
        assert parse_metric(name)([], RELEVANT) == 0


def test_random_rankings_agree_with_numpy() -> None:
    generator = random.Random(1)
    names = [f"d{number}" for number in range(30)]
    for _ in range(200):
        ranked = generator.sample(names, generator.randint(1, 30))
        grades = {name: float(generator.randint(0, 3)) for name in generator.sample(names, 12)}
        if not any(grades.values()):
            continue
        k = generator.randint(1, 30)
        gains = np.array([grades.get(name, 0.0) for name in ranked[:k]])
        ideal = np.sort(np.array(list(grades.values())))[::-1][:k]
        discounted = (gains / np.log2(np.arange(len(gains)) + 2)).sum()
        best = (ideal / np.log2(np.arange(len(ideal)) + 2)).sum()
        assert ndcg_at_k(ranked, grades, k) == pytest.approx(discounted / best)
        hits = gains > 0
        num_relevant = sum(grade > 0 for grade in grades.values())
        assert recall_at_k(ranked, grades, k) == pytest.approx(hits.sum() / num_relevant)
        precisions = np.cumsum(hits) / (np.arange(len(hits)) + 1)
        assert map_at_k(ranked, grades, k) == pytest.approx((precisions * hits).sum() / min(num_relevant, k))
        assert mrr_at_k(ranked, grades, k) == pytest.approx(1 / (hits.argmax() + 1) if hits.any() else 0)


def test_measures_by_name() -> None:
    assert parse_metric("recall@2")(RANKED, RELEVANT) == pytest.approx(1 / 3)
    assert parse_metric("ndcg@10")(["a", "b", "c"], RELEVANT) == pytest.approx(1)


@pytest.mark.parametrize("name", ["recall", "recall@", "recall@0", "recall@-1", "recal@10", "ndcg@ten", "@10", ""])
def test_unknown_measures_are_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(UsageError, match="no measure of retrieval") as error:
        parse_metric(name)
    assert "ndcg@K" in str(error.value)
