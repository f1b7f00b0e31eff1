from typing import Any

import pytest

from genai.config.embedding import RerankerConfig
from genai.embedding.opening import open_reranker
from genai.errors import GenaiError, UsageError


def make(upstream: Any) -> Any:
    return open_reranker(RerankerConfig(name="endpoint", model="reranker", base_url=upstream.url))


def test_scores_in_the_order_of_the_texts(upstream: Any) -> None:
    def answer(body: Any) -> Any:
        rows = [{"index": i, "relevance_score": len(text)} for i, text in enumerate(body["documents"])]
        return {"results": sorted(rows, key=lambda row: -row["relevance_score"])}

    upstream.answer = answer
    assert make(upstream).score("q", ["a", "ccc", "bb"]) == [1.0, 3.0, 2.0]
    path, _, body = upstream.requests[0]
    assert path == "/v1/rerank"
    assert body == {
        "model": "reranker",
        "query": "q",
        "documents": ["a", "ccc", "bb"],
        "top_n": 3,
        "return_documents": False,
    }


def test_no_texts_no_request(upstream: Any) -> None:
    assert make(upstream).score("q", []) == []
    assert upstream.requests == []


@pytest.mark.parametrize(
    "rows",
    [
        None,
        [],
        [{"index": 0, "relevance_score": 1}],
        [{"index": 0, "relevance_score": 1}, {"index": 0, "relevance_score": 1}],
        [{"index": 0, "relevance_score": 1}, {"index": 2, "relevance_score": 1}],
        [{"index": 0, "relevance_score": 1}, {"index": 1, "relevance_score": None}],
        [{"index": 0, "relevance_score": 1}, {"index": 1, "relevance_score": 1e999}],
        [1, 2],
    ],
)
def test_answers_that_leave_texts_out(upstream: Any, rows: Any) -> None:
    upstream.answer = lambda body: {"results": rows}
    with pytest.raises(GenaiError, match="of 2 texts"):
        make(upstream).score("q", ["a", "b"])


@pytest.mark.parametrize("lacks", ["base_url", "model"])
def test_what_it_needs(lacks: str) -> None:
    values = {"model": "m", "base_url": "http://127.0.0.1:9"}
    del values[lacks]
    with pytest.raises(UsageError, match=rf"search\.reranker\.{lacks}"):
        open_reranker(RerankerConfig(name="endpoint", **values))  # type: ignore[arg-type]
