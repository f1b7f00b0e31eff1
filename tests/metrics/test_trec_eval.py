"""Against what trec_eval says about the same rankings; `scripts/trec_eval_reference.py` has asked it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from genai.metrics.retrieval import metric_depth, parse_metric

REFERENCE = json.loads(Path(__file__).with_name("trec_eval.json").read_text())
NAMES = {"recall": "recall", "precision": "P", "map": "map_cut", "ndcg": "ndcg_cut", "hit_rate": "success"}


def expected(query: dict[str, Any], measure: str, k: int) -> float:
    """trec_eval divides average precision by all relevant documents, also where k places cannot hold them."""
    value: float = query["values"][f"{NAMES[measure]}_{k}"]
    num_relevant = len(query["grades"])
    return value * num_relevant / min(num_relevant, k) if measure == "map" else value


@pytest.mark.parametrize("k", [1, 5, 10, 20])
@pytest.mark.parametrize("measure", NAMES)
def test_every_measure_is_that_of_trec_eval(measure: str, k: int) -> None:
    metric = parse_metric(f"{measure}@{k}")
    for query in REFERENCE:
        assert metric(query["ranked"], query["grades"]) == pytest.approx(expected(query, measure, k), abs=1e-9)


def test_reciprocal_ranks_are_those_of_trec_eval() -> None:
    for query in REFERENCE:
        assert parse_metric("mrr@30")(query["ranked"], query["grades"]) == pytest.approx(
            query["values"]["recip_rank"], abs=1e-9
        )


def test_the_reference_is_one() -> None:
    assert len(REFERENCE) == 40
    assert {len(query["grades"]) for query in REFERENCE} == {1, 2, 5, 15}
    assert len({query["values"]["ndcg_cut_10"] for query in REFERENCE}) > 20


def test_depth_of_a_measure() -> None:
    assert [metric_depth(name) for name in ("ndcg@10", "map@100", "recall@1")] == [10, 100, 1]
