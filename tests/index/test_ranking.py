"""The stages of a search, each for itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from toy_index import make_config

from genai.config.embedding import RerankerConfig
from genai.config.index import SearchConfig
from genai.errors import UsageError
from genai.index.filters import Compare
from genai.index.interfaces import Hit, VectorQuery, Vectors
from genai.index.ranking import diversify, reread, retrieve
from genai.index.requests import Query, Request, make_request
from genai.index.words import query_vector

VECTORS = np.eye(2, dtype=np.float32)
WORDS = [query_vector(["a"]), query_vector(["b"])]


class ListReader:
    """Finds a, b, c by vectors and c, d by words; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[VectorQuery] = []

    def search(self, queries: Sequence[VectorQuery]) -> list[list[Hit]]:
        self.asked.extend(queries)
        names = {True: "abc", False: "cd"}
        return [
            [Hit(id=name, score=1 - rank / 10) for rank, name in enumerate(names[isinstance(query.vector, np.ndarray)])]
            for query in queries
        ]

    def count(self, filter: Any = None) -> int:
        return 4

    def close(self) -> None:
        pass


def request(search: SearchConfig, **values: Any) -> Request:
    generation: Any = SimpleNamespace(columns={"topic": "keyword"}, has_tenants=False)
    return make_request(make_config(Path("x"), search=search), generation, **values)


def names(ranking: Sequence[tuple[str, float]]) -> str:
    return "".join(name for name, _ in ranking)


def test_the_engine_is_asked_once_for_all_queries_and_kinds() -> None:
    reader = ListReader()
    config = SearchConfig(mode="hybrid", candidates=30, k=3, dense_weight=0.5, rrf_k=60)
    wanted = request(config, filter="topic=x")
    first, second = retrieve(reader, VECTORS, WORDS, wanted)
    assert len(reader.asked) == 4
    assert {query.limit for query in reader.asked} == {30}
    assert all(query.filter == Compare(column="topic", operator="=", value="x") for query in reader.asked)
    assert names(first) == names(second) == "cab"
    assert dict(first)["c"] == pytest.approx(0.5 / 63 + 0.5 / 61)


def test_one_kind_alone_keeps_its_scores() -> None:
    reader = ListReader()
    [dense, _] = retrieve(reader, VECTORS, None, request(SearchConfig(k=2)))
    assert dense == [("a", 1.0), ("b", 0.9)]
    assert {query.limit for query in reader.asked} == {2}
    [words, _] = retrieve(reader, None, WORDS, request(SearchConfig(mode="bm25")))
    assert words == [("c", 1.0), ("d", 0.9)]


def test_what_scores_too_low_never_reaches_a_reranker() -> None:
    wanted = request(SearchConfig(reranker=RerankerConfig(model="m")), score_threshold=0.85)
    [ranking, _] = retrieve(ListReader(), VECTORS, None, wanted)
    assert names(ranking) == "ab"


class ByTable:
    """Scores texts by a table."""

    def __init__(self, **scores: float) -> None:
        self.scores = scores

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        return [self.scores[text] for text in texts]


def chunks(text: str) -> Any:
    return {name: SimpleNamespace(text=name) for name in text}


def test_rereading_sorts_and_keeps_the_order_of_equals() -> None:
    ranking = [("a", 3.0), ("b", 2.0), ("c", 1.0)]
    [sorted_] = reread(ByTable(a=0.1, b=0.5, c=0.1), [Query(text="q")], [ranking], chunks("abc"))
    assert sorted_ == [("b", 0.5), ("a", 0.1), ("c", 0.1)]
    assert reread(ByTable(), [Query(text="q")], [[]], {}) == [[]]
    with pytest.raises(UsageError, match="needs the text"):
        reread(ByTable(a=1), [Query(vector=VECTORS[0])], [ranking], chunks("abc"))


def test_diversity_without_embeddings_keeps_the_order() -> None:
    def none(ids: Sequence[str]) -> Vectors:
        return np.zeros((len(ids), 0), dtype=np.float32)

    [ranking] = diversify(VECTORS[:1], [[("a", 1.0), ("b", 0.5)]], none, k=2, diversity=0.3)
    assert names(ranking) == "ab"
    assert diversify(VECTORS[:1], [[]], none, k=2, diversity=0.3) == [[]]
