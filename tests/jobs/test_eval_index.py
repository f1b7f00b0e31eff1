"""`genai eval` on an index: figures are those of trec_eval, one way to search beside another, mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytrec_eval
from index_jobs import QUERIES, make_word_model, write_job, write_queries, write_table

from genai.config.eval import EvalConfig
from genai.config.index import IndexConfig
from genai.config.loading import Loaded, load
from genai.errors import ConfigError, UsageError
from genai.jobs import eval as job
from genai.jobs import index as index_job
from genai.jobs.index_query import QueryRequest
from genai.jobs.index_query import run as query

pytestmark = pytest.mark.integration
DEPTH = 3
TREC = {"recall@1": "recall_1", "recall@3": "recall_3", "ndcg@3": "ndcg_cut_3", "mrr@3": "recip_rank"}
"""Our name -> that of trec_eval, on rankings of DEPTH documents."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an index `rooms` of five rows, and questions about them."""
    folder = tmp_path_factory.mktemp("rooms")
    make_word_model(folder / "model")
    write_table(folder / "table")
    write_queries(folder / "queries.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        index_job.run(load(write_job(folder / "rooms.yaml"), IndexConfig))
    return folder


def written(place: Path, **values: Any) -> Loaded[EvalConfig]:
    config = {
        "target": {"index": "rooms", "mode": "dense"},
        "datasets": [{"name": "asked", "path": "queries.jsonl", "kind": "retrieval"}],
        "metrics": list(TREC),
        "statistics": {"num_resamples": 500},
        **values,
    }
    (place / "job.yaml").write_text(json.dumps(config))
    return load(place / "job.yaml", EvalConfig)


def grades(relevant: Any) -> dict[str, int]:
    each = relevant if isinstance(relevant, dict) else dict.fromkeys(relevant, 1)
    return {key: int(grade) for key, grade in each.items()}


def test_figures_are_those_of_trec_eval(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    result = job.run(written(place, baseline={"index": "rooms", "mode": "bm25"}, gates=["asked.recall@3 >= 0.5"]))
    assert result.passed
    request = QueryRequest(name="rooms", indexes_dir=Path("indexes"), k=DEPTH, mode="dense")
    found = {str(number): query(request, str(each["query"])).results for number, each in enumerate(QUERIES)}
    run = {name: {each.key: float(-each.rank) for each in results} for name, results in found.items()}
    judged = {str(number): grades(each["relevant"]) for number, each in enumerate(QUERIES)}
    by_query = pytrec_eval.RelevanceEvaluator(judged, set(TREC.values())).evaluate(run)
    measured = {each.metric: each for each in result.measured if each.target == "rooms"}
    for ours, theirs in TREC.items():
        values = [each[theirs] for each in by_query.values()]
        assert measured[ours].value == pytest.approx(sum(values) / len(values), abs=1e-9)
        assert measured[ours].comparison is not None
    assert result.baseline == "baseline"
    assert {each.metric for each in result.measured if each.target == "baseline"} == set(TREC)


def test_what_an_index_cannot_be_asked(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    (place / "faq.jsonl").write_text('{"prompt": "Why?", "reference": "Because."}\n')
    with pytest.raises(ConfigError, match="kind generation is not for an index"):
        written(place, datasets=[{"name": "faq", "path": "faq.jsonl"}])
    with pytest.raises(ConfigError, match="kind retrieval is for an index, and target is none"):
        written(place, target="gallery:smollm2-135m-instruct")
    with pytest.raises(UsageError, match="did you mean 'rooms'"):
        job.run(written(place, target={"index": "roms"}))
