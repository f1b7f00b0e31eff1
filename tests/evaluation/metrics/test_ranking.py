"""Against what trec_eval says about the same rankings; see tests/metrics/test_trec_eval.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from metric_examples import answered, figure_of, metric_of, reason_of, score_of, searched, value_of

from genai.evaluation.records import Ranking, Score

REFERENCE = json.loads((Path(__file__).resolve().parents[2] / "metrics" / "trec_eval.json").read_text())
NAMES = {
    "recall@10": "recall_10",
    "precision@5": "P_5",
    "ndcg@10": "ndcg_cut_10",
    "hit_rate@1": "success_1",
    "mrr@30": "recip_rank",
    "map@20": "map_cut_20",
}


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_over_queries_is_that_of_trec_eval(name: str) -> None:
    metric = metric_of(name, "retrieval")
    scores = [
        score_of(metric, searched(**query["grades"]), Ranking(keys=tuple(query["ranked"]))) for query in REFERENCE
    ]
    expected = np.mean([query["values"][NAMES[name]] for query in REFERENCE])
    assert figure_of(metric, scores) == pytest.approx(expected, abs=1e-9)
    assert metric.name == name


def test_a_single_query() -> None:
    score = score_of(metric_of("mrr@10", "retrieval"), searched(a=1), Ranking(keys=("x", "a")))
    assert score == Score(parts=(0.5,), value=0.5)
    assert value_of(metric_of("recall@1", "retrieval"), searched(a=1), Ranking(keys=())) == 0


def test_a_query_to_which_nothing_is_relevant_is_not_scored() -> None:
    metric = metric_of("recall@10", "retrieval")
    assert reason_of(metric, searched(a=0), Ranking(keys=("a",))) == "the row names no relevant document"
    assert "this is an answer" in reason_of(metric, answered("a"), "a")
