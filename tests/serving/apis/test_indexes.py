"""/v1/indexes, called as the server does it and over HTTP, in front of a real index."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from scripted_engine import answered, request_to
from served_toy import build_toy, serve_toy
from toy_index import WordEncoder
from vector_engine import VectorEngine, running

from genai.config.embedding import EmbeddingConfig
from genai.config.index import QdrantEdgeConfig
from genai.jobs.serve_indexes import ServedIndex
from genai.serving.apis import indexes
from genai.serving.errors import ApiError
from genai.serving.exchange import Caller
from genai.serving.interfaces import UnavailableError

TEXTS = {"screed": "how thick is the screed", "roof": "a flat roof", "walls": "brick walls carry the roof"}
VECTOR = WordEncoder(EmbeddingConfig(model="words")).embed_queries(["roof"])[0]


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[ServedIndex]:
    build_toy(tmp_path, TEXTS, engine=QdrantEdgeConfig())
    index = serve_toy(tmp_path)
    yield index
    index.close()


class Fixed:
    """An index that is only there by name."""

    def __init__(self, name: str, *, fails: Exception | None = None) -> None:
        self.name = name
        self.writable = False
        self._fails = fails

    async def query(self, query: Any) -> Any:
        assert self._fails is not None
        raise self._fails

    async def upsert(self, rows: Any) -> Any:
        raise AssertionError

    async def delete(self, keys: Any) -> Any:
        raise AssertionError

    def close(self) -> None: ...


def request(known: Any, body: Any = None, name: str = "toy", **how: Any) -> Any:
    made = request_to(VectorEngine(), body, path_params={"name": name}, **how)
    made.services = replace(made.services, indexes={index.name: index for index in known})
    return made


def refused(handler: Any, made: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        asyncio.run(handler(made))
    return caught.value


def test_a_question_in_all_its_forms(toy: ServedIndex) -> None:
    coded = base64.b64encode(VECTOR.tobytes()).decode()
    forms: list[dict[str, Any]] = [{"query": "roof"}, {"vector": VECTOR.tolist()}, {"vector": coded}]
    answers = [answered(indexes.query, request([toy], {**form, "k": 2})) for form in forms]
    assert answers[0] == answers[1] == answers[2]
    answer = answers[0]
    assert (answer["object"], answer["index"], answer["generation"]) == ("list", "toy", "g1")
    assert [row["key"] for row in answer["results"]] == ["roof", "walls"]
    assert list(answer["results"][0]) == [
        *("rank", "score", "id", "key", "text", "source", "start", "end", "page", "heading", "metadata")
    ]
    assert answer["results"][0]["text"] == "a flat roof"


def test_the_answer_is_what_the_api_file_says(toy: ServedIndex) -> None:
    import msgspec

    body = asyncio.run(indexes.query(request([toy], {"query": "roof"}))).body
    for route in indexes.ROUTES:
        if route.handler is indexes.query:
            assert route.response_type is not None
            assert msgspec.json.decode(body, type=route.response_type, strict=True).results[0].key == "roof"


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({}, "query", "give a query"),
        ({"query": "x", "k": 0}, "k", "at least 1"),
        ({"query": "x", "mode": "sparse"}, "mode", "must be one of 'bm25', 'dense'"),
        ({"query": "x", "filters": "a=1"}, "filters", "did you mean 'filter'"),
        ({"query": "x", "filter": "topik = 1"}, None, "unknown column 'topik' (did you mean 'topic'?"),
        ({"query": "x", "filter": {"topik": 1}}, None, "did you mean 'topic'"),
        ({"vector": "%%"}, "vector", "base64"),
        ({"vector": "é"}, "vector", "base64"),
        ({"vector": "AAAA"}, None, "float32"),
        ({"vector": [1.0]}, None, "does not fit an index of 32 numbers"),
        ({"vector": ["a"]}, "vector[0]", "must be"),
    ],
)
def test_what_is_wrong_is_said(toy: ServedIndex, body: Any, param: str | None, said: str) -> None:
    error = refused(indexes.query, request([toy], body))
    assert (error.status, error.param) == (400, param)
    assert said in error.message


def test_only_what_the_caller_may_ask_is_there(toy: ServedIndex) -> None:
    known = [toy, Fixed("toys")]
    caller = Caller(app="a", routes=frozenset({"toys"}))
    assert answered(indexes.indexes, request(known, caller=caller))["data"] == [
        {"id": "toys", "object": "index", "writable": False}
    ]
    everything = answered(indexes.indexes, request(known))["data"]
    assert [(row["id"], row["writable"]) for row in everything] == [("toy", True), ("toys", False)]
    for handler in (indexes.query, indexes.upsert, indexes.delete):
        error = refused(handler, request(known, {"query": "x"}, caller=caller))
        assert (error.status, error.code) == (404, "index_not_found")
        assert "did you mean 'toys'" in error.message
        assert "'toy'?" not in refused(handler, request(known, {}, name="tpyy", caller=caller)).message


def test_an_index_that_is_only_to_be_read(toy: ServedIndex) -> None:
    for handler in (indexes.upsert, indexes.delete):
        error = refused(handler, request([Fixed("toy")], {}))
        assert (error.status, error.code) == (403, "index_not_writable")
        assert "writable: true" in error.message


def test_an_index_that_is_gone_is_told_apart(toy: ServedIndex) -> None:
    gone = Fixed("gone", fails=UnavailableError("index 'gone' cannot be opened at the moment", retry_after_s=3))
    error = refused(indexes.query, request([gone, toy], {"query": "x"}, name="gone"))
    assert (error.status, error.headers) == (503, ((b"retry-after", b"3"),))
    assert answered(indexes.query, request([gone, toy], {"query": "roof"}))["results"]


def test_rows_come_and_go(toy: ServedIndex) -> None:
    made = request([toy], {"rows": [{"id": 7, "text": "a green door", "topic": "doors", "year": 2020}]})
    assert answered(indexes.upsert, made) == {
        **{"index": "toy", "generation": "g1", "documents": 1, "chunks": 1, "embedded": 1}
    }
    asked = {"query": "door", "filter": {"year": {">=": 2020}}, "columns": ["topic"]}
    [found] = answered(indexes.query, request([toy], asked))["results"]
    assert (found["key"], found["metadata"], found["source"]) == ("7", {"topic": "doors"}, "api[7]")
    gone = answered(indexes.delete, request([toy], {"keys": [7, "nobody"]}))
    assert (gone["documents"], gone["chunks"], gone["embedded"]) == (1, 1, 0)
    assert answered(indexes.query, request([toy], asked))["results"] == []


@pytest.mark.parametrize(
    ("handler", "body", "param", "said"),
    [
        (indexes.upsert, {"rows": []}, "rows", "at least 1"),
        (indexes.upsert, {"rows": [1]}, "rows[0]", "an object"),
        (indexes.upsert, {"rows": [{}] * 257}, "rows", "at most 256"),
        (indexes.upsert, {"rows": [{"id": 1, "text": "a"}, {"text": "b"}]}, "rows", "rows[1]: the row has no 'id'"),
        (indexes.upsert, {"rows": [{"id": 1, "year": "x"}]}, "rows", "'year' is 'x', not a whole number"),
        (indexes.delete, {"keys": []}, "keys", "at least 1"),
        (indexes.delete, {"keys": [1.5]}, "keys[0]", "must be"),
    ],
)
def test_rows_that_cannot_be_used(toy: ServedIndex, handler: Any, body: Any, param: str, said: str) -> None:
    error = refused(handler, request([toy], body))
    assert (error.status, error.param) == (400, param)
    assert said in error.message
    assert len(answered(indexes.query, request([toy], {"query": "roof"}))["results"]) == 3


@pytest.mark.integration
def test_over_http(toy: ServedIndex) -> None:
    known, keys = {"toy": toy}, {"one": Caller(app="one"), "two": Caller(app="two", routes=frozenset())}
    with (
        running(VectorEngine(), indexes.ROUTES, indexes=known, keys=keys) as url,
        httpx.Client(base_url=f"{url}/v1/indexes", headers={"authorization": "Bearer one"}) as client,
    ):
        put = client.post("toy/upsert", json={"rows": [{"id": "a b/c", "text": "äöü door"}]})
        assert (put.status_code, put.json()["documents"]) == (200, 1)
        found = client.post("toy/query", json={"vector": VECTOR.tolist(), "k": 10})
        assert {row["key"] for row in found.json()["results"]} == {*TEXTS, "a b/c"}
        assert client.get(f"{url}/v1/indexes").json()["data"][0]["id"] == "toy"
        assert client.post("toy/delete", json={"keys": ["a b/c"]}).json()["documents"] == 1
        assert client.post("tyo/query", json={"query": "x"}).status_code == 404
        other = client.post("toy/query", json={"query": "x"}, headers={"authorization": "Bearer two"})
        assert (other.status_code, json.loads(other.content)["error"]["code"]) == (404, "index_not_found")
        assert np.isfinite(found.json()["results"][0]["score"])
