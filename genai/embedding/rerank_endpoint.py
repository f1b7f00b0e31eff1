"""A reranker behind HTTP: POST {base_url}/rerank, as Jina, Cohere, vLLM, llama.cpp and Infinity speak it.

Source:
    https://jina.ai/reranker, https://docs.cohere.com/reference/rerank
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from genai.config.embedding import RerankerConfig
from genai.embedding.posting import endpoint, post_json
from genai.errors import GenaiError, UsageError


class EndpointReranker:
    """Asks a server how well texts answer a query; see `genai.index.interfaces.Reranker`.

    Args:
        config: with `base_url` and `model`.

    Raises:
        UsageError: one of them is missing.
    """

    def __init__(self, config: RerankerConfig) -> None:
        for name in ("base_url", "model"):
            if getattr(config, name) is None:
                raise UsageError(f"a reranker behind an endpoint needs {name}", where=f"search.reranker.{name}")
        self._model = config.model
        self._endpoint = endpoint(
            str(config.base_url),
            "rerank",
            api_key=config.api_key,
            timeout_s=config.timeout_s,
            section="search.reranker",
        )

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """One number a text, as the server gives it.

        Raises:
            GenaiError: the server refuses, does not answer, or leaves texts out; see `post_json`.
        """
        if not texts:
            return []
        body = {
            "model": self._model,
            "query": query,
            "documents": list(texts),
            "top_n": len(texts),
            "return_documents": False,
        }
        answer = post_json(self._endpoint, body)
        rows = answer.get("results") if isinstance(answer, dict) else None
        scores = dict(map(_score, rows)) if isinstance(rows, list) else {}
        if set(scores) != set(range(len(texts))):
            raise GenaiError(
                f"the server scored {len(scores)} of {len(texts)} texts, or gave scores that are none",
                where=self._endpoint.url.partition("?")[0],
                fix="check search.reranker.model",
            )
        return [scores[place] for place in range(len(texts))]


def _score(row: Any) -> tuple[int, float]:
    """Place and score of one result; place -1 where it has none that can be used."""
    if not isinstance(row, dict):
        return -1, 0.0
    place, score = row.get("index"), row.get("relevance_score")
    usable = isinstance(place, int) and isinstance(score, int | float) and math.isfinite(score)
    return (int(place), float(score)) if usable and place is not None and score is not None else (-1, 0.0)
