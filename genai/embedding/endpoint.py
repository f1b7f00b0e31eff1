"""Vectors from an OpenAI-compatible server: POST {base_url}/embeddings.

Source:
    https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from genai.config.embedding import EmbeddingConfig
from genai.embedding.encoder import fingerprint_of
from genai.embedding.posting import endpoint, post_json
from genai.embedding.vectors import Vectors, finished
from genai.errors import GenaiError, UsageError

DEFAULT_MAX_TOKENS = 8191
"""Of OpenAI's models; a server whose model reads less refuses, and `max_tokens` says so then."""
_WORD_PIECE = re.compile(r"[^\W\d_]{1,4}|\d{1,3}|[^\w\s]|_")
"""The server's tokenizer is not known here. Pieces of four letters are nearly always more than its tokens."""


class EndpointEncoder:
    """Asks a server for vectors; see `genai.index.interfaces.Encoder`.

    Tokens are estimated: the server's tokenizer is not at hand.

    Args:
        config: with `base_url`; `model` is what the server calls it.

    Raises:
        UsageError: there is no base_url, or it is none.
    """

    def __init__(self, config: EmbeddingConfig) -> None:
        if config.base_url is None:
            raise UsageError("backend: endpoint needs the URL of the server", where="embedding.base_url")
        self._config = config
        self._endpoint = endpoint(
            config.base_url, "embeddings", api_key=config.api_key, timeout_s=config.timeout_s, section="embedding"
        )

    @property
    def fingerprint(self) -> str:
        """Of the server, its model, prompts and dimension; what the server does with the model cannot be known."""
        config = self._config
        return fingerprint_of(
            {
                "backend": "endpoint",
                "base_url": str(config.base_url).rstrip("/"),
                "model": config.model,
                "document_prompt": config.document_prompt or "",
                "query_prompt": config.query_prompt or "",
                "normalize": config.normalize,
                "dimension": config.dimension,
                "max_tokens": self.max_tokens,
            }
        )

    @cached_property
    def dimension(self) -> int:
        """Numbers a vector: what the config says, else what the server answers to a word."""
        return self._config.dimension or int(self.embed_queries(["dimension"]).shape[1])

    @property
    def max_tokens(self) -> int:
        """Estimated tokens after which a text is cut."""
        return self._config.max_tokens or DEFAULT_MAX_TOKENS

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """(n, dim), for texts that are to be found.

        Raises:
            GenaiError: the server refuses or does not answer; see `post_json`.
        """
        return self._embed(texts, self._config.document_prompt or "")

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """(n, dim), for what is asked.

        Raises:
            GenaiError: see `embed_documents`.
        """
        return self._embed(texts, self._config.query_prompt or "")

    def token_offsets(self, text: str) -> list[tuple[int, int]]:
        """Start and end, in characters, of estimated tokens: pieces of words of four letters, single signs."""
        return [match.span() for match in _WORD_PIECE.finditer(text)]

    def _embed(self, texts: Sequence[str], prompt: str) -> Vectors:
        import numpy as np

        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        size = self._config.batch_size
        batches = [
            self._request([prompt + self._cut(text) for text in texts[start : start + size]])
            for start in range(0, len(texts), size)
        ]
        widths = {batch.shape[1] for batch in batches}
        if len(widths) != 1:
            raise self._broken(f"vectors of {' and '.join(map(str, sorted(widths)))} numbers")
        dimension = self._config.dimension or widths.pop()
        return finished(
            np.concatenate(batches), dimension=dimension, normalize=self._config.normalize, model=self._config.model
        )

    def _cut(self, text: str) -> str:
        if len(text) <= self.max_tokens:  # a token has a letter at least
            return text
        offsets = self.token_offsets(text)
        return text if len(offsets) <= self.max_tokens else text[: offsets[self.max_tokens - 1][1]]

    def _request(self, texts: list[str]) -> Vectors:
        body: dict[str, Any] = {
            "model": self._config.model,
            "input": [text or " " for text in texts],  # some servers refuse an empty text
            "encoding_format": "float",
        }
        if self._config.dimension is not None:
            body["dimensions"] = self._config.dimension
        answer = post_json(self._endpoint, body)
        return self._vectors(answer, len(texts))

    def _vectors(self, answer: Any, count: int) -> Vectors:
        """The vectors of an answer in the order of the texts, each looked at."""
        import numpy as np

        rows = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(rows, list) or len(rows) != count or not all(isinstance(row, dict) for row in rows):
            found = f"{len(rows)} vectors" if isinstance(rows, list) else "no vectors"
            raise self._broken(f"{found} for {count} texts")
        placed = {row.get("index", place): row.get("embedding") for place, row in enumerate(rows)}
        if set(placed) != set(range(count)):
            raise self._broken("vectors with wrong numbers (index)")
        try:
            vectors = np.asarray([placed[place] for place in range(count)], dtype=np.float32)
        except (TypeError, ValueError):
            raise self._broken("vectors that are no lists of numbers of one length") from None
        if vectors.ndim != 2 or vectors.shape[1] < (self._config.dimension or 1):
            raise self._broken(f"vectors of {vectors.shape[-1] if vectors.ndim == 2 else 0} numbers")
        return vectors

    def _broken(self, what: str) -> GenaiError:
        return GenaiError(
            f"the server answered {what}", where=self._endpoint.url.partition("?")[0], fix="check embedding.model"
        )
