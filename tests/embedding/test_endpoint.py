from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from genai.config.embedding import EmbeddingConfig
from genai.embedding.endpoint import EndpointEncoder
from genai.embedding.opening import open_encoder
from genai.errors import GenaiError, UsageError


def vector_of(text: str, size: int = 6) -> list[float]:
    return [float(len(text)), float(sum(map(ord, text)) % 97), 3.0, 4.0, 5.0, 6.0][:size]


def answer(body: Any) -> dict[str, Any]:
    """As a server does it, in whatever order it likes."""
    size = body.get("dimensions", 6)
    rows = [{"object": "embedding", "index": i, "embedding": vector_of(t, size)} for i, t in enumerate(body["input"])]
    return {"object": "list", "data": rows[::-1], "model": body["model"], "usage": {"prompt_tokens": 1}}


@pytest.fixture
def make(upstream: Any) -> Callable[..., Any]:
    upstream.answer = answer
    return lambda **changes: open_encoder(EmbeddingConfig(model="text-embed", base_url=upstream.url, **changes))


def scaled(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_vectors_in_the_order_of_the_texts(make: Callable[..., Any], upstream: Any) -> None:
    texts = [f"text {'x' * n}" for n in range(7)]
    encoder = make(batch_size=3)
    assert isinstance(encoder, EndpointEncoder)
    np.testing.assert_allclose(
        encoder.embed_documents(texts), scaled(np.array([vector_of(t) for t in texts])), rtol=1e-6
    )
    assert [len(body["input"]) for _, _, body in upstream.requests] == [3, 3, 1]
    path, _, body = upstream.requests[0]
    assert path == "/v1/embeddings"
    assert body == {"model": "text-embed", "input": texts[:3], "encoding_format": "float"}


def test_prompts_and_no_scaling(make: Callable[..., Any], upstream: Any) -> None:
    encoder = make(document_prompt="passage: ", query_prompt="query: ", normalize=False)
    assert encoder.embed_documents(["a"])[0].tolist() == vector_of("passage: a")
    assert encoder.embed_queries(["a"])[0].tolist() == vector_of("query: a")


def test_a_dimension_is_asked_for_and_cut_where_the_server_does_not_know_it(
    make: Callable[..., Any], upstream: Any
) -> None:
    expected = scaled(np.array([vector_of("ab", 4)]))
    np.testing.assert_allclose(make(dimension=4).embed_queries(["ab"]), expected, rtol=1e-6)
    assert upstream.requests[-1][2]["dimensions"] == 4
    upstream.answer = lambda body: answer({**body, "dimensions": 6})
    np.testing.assert_allclose(make(dimension=4).embed_queries(["ab"]), expected, rtol=1e-6)
    upstream.answer = lambda body: answer({**body, "dimensions": 3})
    with pytest.raises(GenaiError, match="vectors of 3 numbers"):
        make(dimension=4).embed_queries(["ab"])


def test_the_dimension_is_learnt_once(make: Callable[..., Any], upstream: Any) -> None:
    encoder = make()
    assert (encoder.dimension, encoder.dimension, len(upstream.requests)) == (6, 6, 1)
    assert (make(dimension=4).dimension, len(upstream.requests)) == (4, 1)


def test_no_text_and_an_empty_text(make: Callable[..., Any], upstream: Any) -> None:
    assert make(dimension=5).embed_documents([]).shape == (0, 5)
    assert upstream.requests == []
    make().embed_documents(["", "a"])
    assert upstream.requests[0][2]["input"] == [" ", "a"]


def test_a_fingerprint_needs_no_server() -> None:
    def fingerprint(**changes: Any) -> str:
        values = {"model": "m", "base_url": "http://127.0.0.1:9/v1", **changes}
        return open_encoder(EmbeddingConfig(**values)).fingerprint

    changes = [
        {},
        {"model": "n"},
        {"base_url": "http://127.0.0.1:9/v2"},
        {"dimension": 3},
        {"query_prompt": "q"},
        {"document_prompt": "q"},
        {"normalize": False},
        {"max_tokens": 7},
    ]
    assert len({fingerprint(**change) for change in changes}) == len(changes)
    same = {"base_url": "http://127.0.0.1:9/v1/", "api_key": "env:X", "batch_size": 2, "timeout_s": 1.0}
    assert fingerprint(**same) == fingerprint()


def test_long_texts_are_cut(make: Callable[..., Any], upstream: Any) -> None:
    encoder = make(max_tokens=3, query_prompt="ask: ")
    encoder.embed_queries(["one, two three"])
    assert upstream.requests[0][2]["input"] == ["ask: one, two"]
    encoder.embed_queries(["abc"])
    assert upstream.requests[1][2]["input"] == ["ask: abc"]
    assert (make().max_tokens, encoder.max_tokens) == (8191, 3)


def test_estimated_tokens(make: Callable[..., Any]) -> None:
    text = "Construction of 2026-11: a_b 建筑 😀!"
    spans = [text[start:end] for start, end in make().token_offsets(text)]
    assert spans == ["Cons", "truc", "tion", "of", "202", "6", "-", "11", ":", "a", "_", "b", "建筑", "😀", "!"]
    assert make().token_offsets("") == []


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({}, "no vectors for 2 texts"),
        ([], "no vectors for 2 texts"),
        ({"data": []}, "0 vectors for 2 texts"),
        ({"data": [1, 2]}, "2 vectors for 2 texts"),
        ({"data": [{"index": 0, "embedding": [1]}] * 2}, "wrong numbers"),
        ({"data": [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [1, 2]}]}, "no lists of numbers"),
        ({"data": [{"index": 0, "embedding": "x"}, {"index": 1, "embedding": "y"}]}, "no lists of numbers"),
        ({"data": [{"index": 0, "embedding": []}, {"index": 1, "embedding": []}]}, "vectors of 0 numbers"),
        ({"data": [{"index": 0, "embedding": [1e999]}, {"index": 1, "embedding": [1]}]}, "infinite numbers"),
    ],
)
def test_answers_that_cannot_be_used(make: Callable[..., Any], upstream: Any, broken: Any, said: str) -> None:
    upstream.answer = lambda body: broken
    with pytest.raises(GenaiError, match=said):
        make().embed_documents(["a", "b"])


def test_answers_without_numbers_are_in_order(make: Callable[..., Any], upstream: Any) -> None:
    upstream.answer = lambda body: {"data": [{"embedding": [1, 0]}, {"embedding": [0, 1]}]}
    assert make().embed_documents(["a", "b"]).tolist() == [[1, 0], [0, 1]]


def test_a_server_that_changes_its_mind(make: Callable[..., Any], upstream: Any) -> None:
    upstream.answer = lambda body: answer({**body, "dimensions": 3 + len(body["input"])})
    with pytest.raises(GenaiError, match="vectors of 4 and 5 numbers"):
        make(batch_size=2).embed_documents(["a", "b", "c"])


def test_a_url_is_needed() -> None:
    with pytest.raises(UsageError, match=r"embedding\.base_url: backend: endpoint needs"):
        open_encoder(EmbeddingConfig(model="m", backend="endpoint"))
