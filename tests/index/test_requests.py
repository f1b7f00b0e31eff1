"""What may be asked of an index, and what is said when it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_index import make_config

from genai.config.embedding import RerankerConfig
from genai.config.index import IndexConfig, IndexSourceConfig, SearchConfig
from genai.errors import UsageError
from genai.index.filters import All, Compare
from genai.index.ledger_records import Generation
from genai.index.requests import Query, Request, check_queries, make_request

CONFIG = make_config(Path("indexes"))


def generation(*, has_tenants: bool = False) -> Generation:
    return Generation(
        name="g1",
        fingerprint="words",
        dimension=4,
        state="live",
        embedding={"model": "words"},
        columns={"topic": "keyword", "year": "integer"},
        has_tenants=has_tenants,
        shape="s",
        average_length=10.0,
        average_of=3,
        token="1",
        applied=1,
        points=3,
        created_at="2026-01-01T00:00:00Z",
    )


def ask(config: IndexConfig = CONFIG, **values: Any) -> Request:
    return make_request(config, generation(has_tenants=config.source.tenant is not None), **values)


def test_what_is_not_asked_is_as_the_config_says() -> None:
    request = ask(make_config(Path("x"), search=SearchConfig(mode="hybrid", k=7, dense_weight=0.8, candidates=40)))
    assert (request.k, request.mode, request.dense_weight, request.depth) == (7, "hybrid", 0.8, 40)
    assert (request.filter, request.tenant, request.columns, request.reranker) == (None, None, None, None)


@pytest.mark.parametrize(
    ("mode", "vectors", "words"), [("dense", True, False), ("bm25", False, True), ("hybrid", True, True)]
)
def test_a_mode_searches_what_it_needs(mode: Any, vectors: bool, words: bool) -> None:
    request = ask(mode=mode)
    assert (request.searches_vectors, request.searches_words) == (vectors, words)


def test_hybrid_with_all_weight_on_one_side_searches_that_alone() -> None:
    config = make_config(Path("x"), search=SearchConfig(mode="hybrid", dense_weight=1.0))
    assert not ask(config).searches_words


def test_a_threshold_of_the_config_holds_for_its_own_mode_only() -> None:
    config = make_config(Path("x"), search=SearchConfig(mode="dense", score_threshold=0.4))
    assert ask(config).score_threshold == 0.4
    assert ask(config, mode="bm25").score_threshold is None
    assert ask(config, mode="bm25", score_threshold=3.0).score_threshold == 3.0
    assert ask(config, score_threshold=0.0).score_threshold == 0.0


def test_a_reranker_looks_at_its_candidates_unless_it_is_switched_off() -> None:
    config = make_config(Path("x"), search=SearchConfig(k=10, reranker=RerankerConfig(model="m", candidates=30)))
    assert ask(config).num_candidates == 30
    assert ask(config).rereads
    assert ask(config, k=50).num_candidates == 50
    assert ask(config, rerank=False).num_candidates == 10
    with pytest.raises(UsageError, match="no reranker"):
        ask(rerank=True)


@pytest.mark.parametrize("k", [0, -1, 10_001])
def test_an_impossible_number_of_results_is_refused(k: int) -> None:
    with pytest.raises(UsageError, match="k is between 1 and 10000"):
        ask(k=k)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(UsageError, match="'sparse'"):
        ask(mode="sparse")


def test_unknown_columns_are_refused_with_the_nearest() -> None:
    assert ask(columns=["topic"]).columns == {"topic"}
    assert ask(columns=[]).columns == frozenset()
    with pytest.raises(UsageError, match=r"no column 'topics' \(did you mean 'topic'\?\)"):
        ask(columns=["topics"])
    with pytest.raises(UsageError, match="did you mean 'topic'"):
        ask(filter="topics=floors")


def test_filters_are_texts_or_values() -> None:
    expected = Compare(column="topic", operator="=", value="floors")
    assert ask(filter="topic=floors").filter == expected
    assert ask(filter={"topic": "floors"}).filter == expected
    assert ask(filter=["topic=floors"]).filter == expected
    assert ask(filter="").filter is None
    assert ask(filter=[]).filter is None


TENANTS = make_config(Path("x"), source=IndexSourceConfig(direct=True, metadata={"topic": "keyword"}, tenant="owner"))


@pytest.mark.parametrize("tenant", [None, ""])
def test_an_index_with_tenants_refuses_a_query_without_one(tenant: str | None) -> None:
    with pytest.raises(UsageError, match=r"several tenants, and the query names none \(name one: --tenant .*'owner'"):
        ask(TENANTS, tenant=tenant)


def test_an_index_without_tenants_refuses_one() -> None:
    with pytest.raises(UsageError, match="has no tenants"):
        ask(tenant="acme")


def test_a_filter_cannot_reach_past_the_tenant() -> None:
    own = Compare(column="_tenant", operator="=", value="acme")
    assert ask(TENANTS, tenant="acme").filter == own
    wide = ask(TENANTS, tenant="acme", filter="topic=a or not topic=a").filter
    assert isinstance(wide, All)
    assert wide.filters[0] == own
    with pytest.raises(UsageError, match="unknown column '_tenant'"):
        ask(TENANTS, tenant="acme", filter="_tenant=other")


def test_queries_come_as_text_as_vectors_or_as_both() -> None:
    vector = np.ones(4, dtype=np.float32)
    checked = check_queries(["a", vector, Query(text="b", vector=vector)], ask(), dimension=4)
    assert [(query.text, query.vector is not None) for query in checked] == [("a", False), (None, True), ("b", True)]
    assert check_queries([], ask(), dimension=4) == []


@pytest.mark.parametrize(
    ("query", "mode", "message"),
    [
        ("  ", "dense", "query 2: the query is empty"),
        (Query(), "dense", "query 2: the query is empty"),
        (np.ones(4, dtype=np.float32), "bm25", "query 2: mode bm25 needs the text"),
        (np.ones(4, dtype=np.float32), "hybrid", "query 2: mode hybrid needs the text"),
        (np.ones(5, dtype=np.float32), "dense", "does not fit an index of 4 numbers"),
        (np.ones((1, 4), dtype=np.float32), "dense", "does not fit an index of 4 numbers"),
        (np.array([1, np.nan, 0, 0], dtype=np.float32), "dense", "not finite"),
    ],
)
def test_queries_that_cannot_be_answered_are_named(query: Any, mode: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_queries(["fine", query], ask(mode=mode), dimension=4)


def test_a_reading_reranker_needs_texts_and_a_diverse_one_does_not() -> None:
    vector = np.ones(4, dtype=np.float32)
    reading = make_config(Path("x"), search=SearchConfig(reranker=RerankerConfig(model="m")))
    with pytest.raises(UsageError, match="the reranker needs the text"):
        check_queries([vector], ask(reading), dimension=4)
    diverse = make_config(Path("x"), search=SearchConfig(reranker=RerankerConfig(name="mmr")))
    assert len(check_queries([vector], ask(diverse), dimension=4)) == 1


def test_one_text_is_no_batch() -> None:
    with pytest.raises(TypeError, match="list of texts"):
        check_queries("how thick", ask(), dimension=4)
