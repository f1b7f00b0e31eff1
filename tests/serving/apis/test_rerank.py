"""/v1/rerank, called as the server does it, and by this house's own client of such servers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from scripted_engine import answered, request_to
from vector_engine import VectorEngine, running

from genai.config.embedding import RerankerConfig
from genai.embedding.rerank_endpoint import EndpointReranker
from genai.serving.apis.rerank import ROUTES, rerank
from genai.serving.errors import ApiError
from genai.serving.exchange import Caller

TEXTS = ["four", "seven ..", "six...", "four"]


@pytest.fixture
def engine() -> VectorEngine:
    return VectorEngine()


def ask(engine: VectorEngine, **body: Any) -> Any:
    return answered(rerank, request_to(engine, {"model": "ranker", "query": "q", "documents": TEXTS, **body}))


def refused(engine: VectorEngine, **body: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        asyncio.run(rerank(request_to(engine, {"model": "ranker", "query": "q", "documents": TEXTS, **body})))
    return caught.value


def test_the_best_come_first_and_equals_stay_in_order(engine: VectorEngine) -> None:
    answer = ask(engine)
    assert [row["index"] for row in answer["results"]] == [1, 2, 0, 3]
    assert answer["results"][0] == {"index": 1, "relevance_score": 1 - 1 / 9}
    assert (answer["id"], answer["model"]) == ("rerank-r1", "ranker")
    assert answer["usage"] == {"prompt_tokens": 22, "total_tokens": 22}


def test_documents_as_objects_and_in_the_answer(engine: VectorEngine) -> None:
    documents = [{"text": text} for text in TEXTS]
    answer = ask(engine, documents=documents, top_n=2, return_documents=True)
    assert [row["document"] for row in answer["results"]] == [{"text": "seven .."}, {"text": "six..."}]
    assert engine.reranks[0].texts == TEXTS
    assert len(ask(engine, top_n=100)["results"]) == 4


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({"query": " "}, "query", "is empty"),
        ({"documents": []}, "documents", "is empty"),
        ({"documents": ["a", ""]}, "documents[1]", "is empty"),
        ({"documents": ["x"] * 257}, "documents", "at most 256"),
        ({"documents": [{"title": "x"}]}, "documents[0].text", "missing"),
        ({"top_n": 0}, "top_n", "at least 1"),
        ({"rank_fields": ["x"]}, "rank_fields", "send each document as a text"),
        ({"model": "encoder"}, "model", "ask /v1/embeddings"),
        ({"model": "rankr"}, "model", "did you mean 'ranker'"),
    ],
)
def test_what_is_wrong_is_said(engine: VectorEngine, body: Any, param: str, said: str) -> None:
    error = refused(engine, **body)
    assert error.param == param
    assert said in error.message
    assert engine.reranks == []


def test_faults_of_the_engine_become_answers(engine: VectorEngine) -> None:
    assert refused(engine, documents=["fault overloaded"]).status == 429


@pytest.mark.integration
def test_our_own_client_of_such_servers(engine: VectorEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK_KEY", "secret")
    with running(engine, ROUTES, keys={"secret": Caller(app="search")}) as url:
        config = RerankerConfig(name="endpoint", base_url=f"{url}/v1", model="ranker", api_key="env:RANK_KEY")
        scores = EndpointReranker(config).score("q", TEXTS)
    assert scores == [1 - 1 / (1 + len(text)) for text in TEXTS]
    assert engine.reranks[0].client == "search"
