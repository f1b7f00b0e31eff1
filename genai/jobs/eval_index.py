"""An index of `genai index` as what an evaluation asks."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from genai.config.eval import TargetConfig
from genai.errors import DataError, UsageError
from genai.evaluation.records import Failure, Outcome, Query, Question, Ranking, Usage
from genai.jobs.index_parts import open_index

if TYPE_CHECKING:
    from genai.index.search import Index

_CHUNKS_A_DOCUMENT = 4
"""So many times more chunks are asked for than documents are wanted: several may belong to one document."""


class IndexTarget:
    """Meets `genai.evaluation.interfaces.Target` for questions of kind retrieval; documents are named by their keys.

    Args:
        name: in results.
        config: with `index`.
        allow_code: whether its encoder may bring its own Python.

    Raises:
        UsageError: there is no such index.
    """

    concurrency = 1
    """The engine keeps Python's lock while it searches, and the encoder takes all cores."""

    def __init__(self, name: str, config: TargetConfig, *, allow_code: bool) -> None:
        assert config.index is not None
        self.name = name
        self._config = config
        self._index: Index = open_index(config.index, Path(config.indexes_dir), allow_code=allow_code)
        generation = self._index.generation()
        mode = config.mode or self._index.config.search.mode
        self.fingerprint = f"index:{config.index}:{generation.name}:{generation.fingerprint}:{mode}:{config.filter}"
        """Of what an answer depends on: the generation, its encoder, how it is searched."""

    async def __aenter__(self) -> IndexTarget:
        return self

    async def __aexit__(self, *error: object) -> None:
        self._index.__exit__(None, None, None)

    async def ask(self, question: Question) -> Outcome:
        """The documents that are found, best first; each once, at the place of its best chunk."""
        if not isinstance(question, Query):
            return Failure(reason="an index answers questions of kind retrieval only")
        return await asyncio.to_thread(self._search, question)

    def _search(self, query: Query) -> Outcome:
        began = time.perf_counter()
        wanted = query.k * _CHUNKS_A_DOCUMENT
        try:
            (results,) = self._index.search(
                [query.text], k=wanted, mode=self._config.mode, filter=self._config.filter, columns=()
            )
        except (UsageError, DataError) as error:
            return Failure(reason=str(error))
        texts: dict[str, str] = {}
        for result in results:
            texts.setdefault(result.key, result.text)
        keys = tuple(texts)[: query.k]
        latency_s = time.perf_counter() - began
        return Ranking(
            keys=keys,
            texts=tuple(texts[key] for key in keys),
            usage=Usage(latency_s=latency_s),
        )
