"""/v1/embeddings, called as the server does it, and by the clients that people have."""

from __future__ import annotations

import asyncio
import base64
import json
from array import array
from typing import Any

import numpy as np
import pytest
from scripted_engine import answered, request_to
from vector_engine import DIMENSION, VectorEngine, encoder_card, running, vector_of

from genai.config.embedding import EmbeddingConfig
from genai.serving.apis.embeddings import ROUTES, embeddings
from genai.serving.errors import ApiError
from genai.serving.exchange import Caller


@pytest.fixture
def engine() -> VectorEngine:
    return VectorEngine()


def ask(engine: VectorEngine, **body: Any) -> Any:
    return answered(embeddings, request_to(engine, {"model": "encoder", **body}))


def refused(engine: VectorEngine, body: Any, **how: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        asyncio.run(embeddings(request_to(engine, body, **how)))
    return caught.value


def test_vectors_as_numbers_and_as_base64_are_the_same(engine: VectorEngine) -> None:
    texts = [f"text {number}" for number in range(70)]  # more than are written at once
    numbers = ask(engine, input=texts)
    coded = ask(engine, input=texts, encoding_format="base64")
    assert numbers["object"] == "list" and numbers["model"] == "encoder"
    assert [row["index"] for row in numbers["data"]] == list(range(70))
    assert {row["object"] for row in numbers["data"]} == {"embedding"}
    for text, row, other in zip(texts, numbers["data"], coded["data"], strict=True):
        assert array("f", row["embedding"]).tobytes() == vector_of(text) == base64.b64decode(other["embedding"])
    total = sum(map(len, texts))
    assert numbers["usage"] == {"prompt_tokens": total, "total_tokens": total}


def test_one_text_is_a_list_of_one(engine: VectorEngine) -> None:
    request = request_to(engine, {"model": "encoder", "input": "hello", "user": "me"}, caller=Caller(app="web"))
    assert len(answered(embeddings, request)["data"]) == 1
    [asked] = engine.embeds
    assert (asked.texts, asked.role, asked.client, asked.truncate) == (["hello"], "document", "web", False)
    assert asked.timeout_s is not None and 0 < asked.timeout_s <= 60
    assert (request.notes.model, request.notes.prompt_tokens) == ("encoder", 5)


def test_the_role_is_the_requests_or_the_cards() -> None:
    engine = VectorEngine(encoder_card(default_role="query"))
    ask(engine, input="x")
    ask(engine, input="x", input_type="document", truncate=True)
    assert [(asked.role, asked.truncate) for asked in engine.embeds] == [("query", False), ("document", True)]


def test_fewer_dimensions(engine: VectorEngine) -> None:
    assert len(ask(engine, input="x", dimensions=4)["data"][0]["embedding"]) == 4
    error = refused(engine, {"model": "encoder", "input": "x", "dimensions": DIMENSION + 1})
    assert (error.status, error.param) == (400, "dimensions")
    assert error.message == "dimensions must be between 1 and 16, not 17"


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({"input": ""}, "input", "is empty"),
        ({"input": []}, "input", "is empty"),
        ({"input": ["a", ""]}, "input[1]", "is empty"),
        ({"input": [1, 2]}, "input", "not tokens"),
        ({"input": [[1, 2]]}, "input", "check_embedding_ctx_length"),
        ({"input": ["a", 1]}, "input", "not tokens"),
        ({"input": {"text": "a"}}, "input", "must be"),
        ({"input": ["x"] * 257}, "input", "257 texts; at most 256"),
        ({"input": "x", "dimensions": 0}, "dimensions", "at least 1"),
        ({"input": "x", "encoding_format": "int8"}, "encoding_format", "must be one of 'base64', 'float'"),
        ({"input": "x", "input_type": "passage"}, "input_type", "must be one of 'document', 'query'"),
        ({"inputs": "x"}, "inputs", "did you mean 'input'"),
        ({}, "input", "missing"),
    ],
)
def test_what_is_wrong_is_said(engine: VectorEngine, body: Any, param: str, said: str) -> None:
    error = refused(engine, {"model": "encoder", **body})
    assert (error.status, error.param) == (400, param)
    assert said in error.message
    assert engine.embeds == []


def test_models_that_are_not_there_or_no_encoders(engine: VectorEngine) -> None:
    error = refused(engine, {"model": "encodr", "input": "x"})
    assert (error.status, error.code) == (404, "model_not_found")
    assert "did you mean 'encoder'" in error.message
    assert "ask /v1/chat/completions" in refused(engine, {"model": "chat", "input": "x"}).message
    hidden = refused(engine, {"model": "encoder", "input": "x"}, caller=Caller(app="a", routes=frozenset({"chat"})))
    assert hidden.status == 404 and "did you mean" not in hidden.message


@pytest.mark.parametrize(
    ("code", "status"), [("too_long", 400), ("overloaded", 429), ("failed", 500), ("timeout", 504)]
)
def test_faults_of_the_engine_become_answers(engine: VectorEngine, code: str, status: int) -> None:
    error = refused(engine, {"model": "encoder", "input": [f"fault {code}"]})
    assert (error.status, error.message) == (status, f"it is {code}")


@pytest.mark.integration
def test_clients_find_the_server_ordinary(engine: VectorEngine) -> None:
    import openai
    from langchain_openai import OpenAIEmbeddings

    from genai.embedding.endpoint import EndpointEncoder

    texts, expected = ["one", "two"], np.stack([np.frombuffer(vector_of(text), "<f4") for text in ("one", "two")])
    with running(engine, ROUTES) as url:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            for more in ({"encoding_format": "float"}, {}):  # left out, the client asks for base64 and decodes it
                found = client.embeddings.create(model="encoder", input=texts, **more)  # type: ignore[arg-type]
                assert np.allclose([row.embedding for row in found.data], expected, atol=1e-6)
            with pytest.raises(openai.BadRequestError) as caught:
                client.embeddings.create(model="encoder", input="fault too_long")
            assert caught.value.code == "context_length_exceeded"
            with pytest.raises(openai.NotFoundError, match="did you mean 'encoder'"):
                client.embeddings.create(model="encoderr", input="x")
        chain: Any = OpenAIEmbeddings(
            base_url=f"{url}/v1", api_key="none", model="encoder", check_embedding_ctx_length=False
        )
        assert np.allclose(chain.embed_documents(texts), expected, atol=1e-6)
        chain.client._client.close()
        config = EmbeddingConfig(model="encoder", base_url=f"{url}/v1", dimension=DIMENSION)
        assert np.allclose(EndpointEncoder(config).embed_queries(texts), expected, atol=1e-6)


def test_the_answer_is_plain_json(engine: VectorEngine) -> None:
    body = asyncio.run(embeddings(request_to(engine, {"model": "encoder", "input": ["x"]}))).body
    assert list(json.loads(body)) == ["object", "model", "data", "usage"]
