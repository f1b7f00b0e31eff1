"""Answers queries from an index: by vectors, by words or by both, filtered, reranked, with the texts that were found.

    with Index.open(folder, config, encoder_of=open_encoder, engine=engine) as index:
        [results] = index.search(["how thick is the screed"], filter="topic=floors")

Every batch is answered from one published state of the engine, whatever is synced or swapped meanwhile; the next batch
sees what was published by then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from genai.config.embedding import EmbeddingConfig
from genai.config.index import IndexConfig
from genai.errors import DataError
from genai.index.interfaces import Encoder, Engine, Reranker, SparseVector, Vectors
from genai.index.ledger import Ledger
from genai.index.ledger_records import Generation, StoredChunk
from genai.index.ranking import Ranking, diversify, reread, retrieve
from genai.index.requests import FilterLike, Mode, Query, Request, check_queries, make_request
from genai.index.snapshots import Snapshot, Snapshots
from genai.index.words import Analyzer, query_vector


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One chunk that was found."""

    rank: int
    """1 is the best."""
    score: float
    """dense: cosine; bm25: BM25; hybrid: sum of weighted reciprocal ranks; after a reranker: its own score."""
    id: str
    """Of the chunk."""
    key: str
    """Of its document."""
    text: str
    """A slice of the document's text."""
    source: str
    """Where the document stands, for people."""
    start: int
    """First character in the document."""
    end: int
    """First character after it."""
    page: int | None
    """1 is the first."""
    heading: str | None
    """The headings above it, "A > B"."""
    metadata: Mapping[str, Any]
    """The columns that were asked for."""


class Index:
    """An index to ask.

    May be asked by several threads at once: engines search in parallel (but for qdrant_edge, which keeps Python's lock
    while it does), a model of this process embeds for one of them at a time. A process that forks opens its own.

    Args:
        ledger: opened for this object alone; closed with it.
        config: of the last sync.
        encoder_of: opens the encoder of a generation, when a query first needs it.
        engine: that the index was built with.
        reranker: what `search.reranker` names, but for mmr.
        generation: name of one to ask, whatever is live; by default the live one is followed.
    """

    def __init__(
        self,
        ledger: Ledger,
        config: IndexConfig,
        *,
        encoder_of: Callable[[EmbeddingConfig], Encoder],
        engine: Engine,
        reranker: Reranker | None = None,
        generation: str | None = None,
    ) -> None:
        self.config = config
        self.ledger = ledger
        self._snapshots = Snapshots(ledger, engine, encoder_of, pinned=generation)
        self._reranker = reranker
        self._analyzer = Analyzer(config.bm25.language)

    @classmethod
    def open(
        cls,
        folder: Path,
        config: IndexConfig,
        *,
        encoder_of: Callable[[EmbeddingConfig], Encoder],
        engine: Engine,
        reranker: Reranker | None = None,
        generation: str | None = None,
    ) -> Index:
        """The index in `folder`, `<indexes_dir>/<name>`; for the rest see the class.

        Raises:
            UsageError: there is none.
        """
        ledger = Ledger.open(folder, read_only=True)
        try:
            return cls(ledger, config, encoder_of=encoder_of, engine=engine, reranker=reranker, generation=generation)
        except BaseException:
            ledger.close()
            raise

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the engine's files and of the ledger; no query may be under way."""
        self._snapshots.close()
        self.ledger.close()

    def generation(self) -> Generation:
        """The one that answers now."""
        with self._snapshots.newest() as snapshot:
            return snapshot.generation

    def answers_at_once(self) -> bool:
        """Whether the newest state is open, so that a query is nothing but a search."""
        return self._snapshots.is_newest_open()

    def look_again(self) -> None:
        """Let the next query look for a newer state, whether or not the ledger seems to have changed."""
        self._snapshots.look_again()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Queries as vectors, to ask several times: (n, dim)."""
        with self._snapshots.newest() as snapshot:
            return snapshot.encoder.embed(list(texts))

    def search(
        self,
        queries: Sequence[str | Vectors | Query],
        *,
        k: int | None = None,
        mode: Mode | None = None,
        filter: FilterLike | None = None,
        tenant: str | None = None,
        columns: Sequence[str] | None = None,
        score_threshold: float | None = None,
        rerank: bool | None = None,
    ) -> list[list[Result]]:
        """Answer a batch of queries.

        Args:
            queries: texts, vectors of the index's encoder, or both (`Query`).
            k: results a query, at most; by default what the config says, as for all that follow.
            mode: dense, bm25 or hybrid.
            filter: what the metadata must be, e.g. "topic=floors and year>=2020", or values (see `parse_filter`).
            tenant: whose chunks are searched. Has to be given where the index has tenants, and only there.
            columns: metadata to return; by default all.
            score_threshold: leaves out what scores lower in the search itself, before any reranking. The config's
                own holds for the config's own mode only.
            rerank: whether the config's reranker puts the results in order; by default it does where there is one.

        Returns:
            the results of each query, best first.

        Raises:
            UsageError: the index cannot be asked this, or nothing was published yet.
            DataError: the published state or the encoder does not fit the ledger.
        """
        _, results = self.search_named(
            queries,
            k=k,
            mode=mode,
            filter=filter,
            tenant=tenant,
            columns=columns,
            score_threshold=score_threshold,
            rerank=rerank,
        )
        return results

    def search_named(self, queries: Sequence[str | Vectors | Query], **how: Any) -> tuple[str, list[list[Result]]]:
        """As `search`, and the name of the generation that answered.

        Args:
            queries, how: see `search`.

        Raises:
            UsageError, DataError: see `search`.
        """
        ask = partial(make_request, self.config, **how)
        try:
            return self._search(queries, ask)
        except (DataError, _OutrunError):
            # Syncs may have moved on so far that the state that is open, or the texts of its chunks, are gone.
            self._snapshots.look_again()
            return self._search(queries, ask, is_last=True)

    def _search(
        self,
        queries: Sequence[str | Vectors | Query],
        ask: Callable[[Generation], Request],
        *,
        is_last: bool = False,
    ) -> tuple[str, list[list[Result]]]:
        with self._snapshots.newest() as snapshot:
            request = ask(snapshot.generation)
            checked = check_queries(queries, request, dimension=snapshot.generation.dimension)
            if not checked:
                return snapshot.generation.name, []
            vectors = _vectors(snapshot, checked) if request.searches_vectors or request.diversifies else None
            rankings = retrieve(
                snapshot.reader,
                vectors if request.searches_vectors else None,
                self._words(checked) if request.searches_words else None,
                request,
            )
            chunks = self.ledger.chunks(list({name for ranking in rankings for name, _ in ranking}))
            if not is_last and any(name not in chunks for ranking in rankings for name, _ in ranking):
                raise _OutrunError
            rankings = [_allowed(ranking, chunks, request) for ranking in rankings]
            if request.diversifies:
                assert vectors is not None and request.reranker is not None
                vectors_of = partial(self.ledger.vectors, fingerprint=snapshot.generation.fingerprint)
                diversity = request.reranker.diversity
                rankings = diversify(vectors, rankings, vectors_of, k=request.k, diversity=diversity)
            elif request.rereads:
                assert self._reranker is not None, "whoever opens an index with a reranker gives one"
                rankings = reread(self._reranker, checked, rankings, chunks)
            return snapshot.generation.name, [_results(ranking, chunks, request) for ranking in rankings]

    def _words(self, queries: Sequence[Query]) -> list[SparseVector]:
        return [query_vector(self._analyzer.terms(query.text or "")) for query in queries]


class _OutrunError(Exception):
    """The engine found chunks that the ledger no longer keeps."""


def _vectors(snapshot: Snapshot, queries: Sequence[Query]) -> Vectors:
    """(n, dim): the queries' own vectors, and those made of their texts."""
    vectors = np.empty((len(queries), snapshot.generation.dimension), dtype=np.float32)
    texts: list[tuple[int, str]] = []
    for row, query in enumerate(queries):
        if query.vector is not None:
            vectors[row] = query.vector
        else:
            texts.append((row, query.text or ""))
    if texts:
        vectors[[row for row, _ in texts]] = snapshot.encoder.embed([text for _, text in texts])
    return vectors


def _allowed(ranking: Ranking, chunks: Mapping[str, StoredChunk], request: Request) -> Ranking:
    """Without chunks that are known no more, or that were given to another tenant after the state was published."""
    return [
        (name, score)
        for name, score in ranking
        if (chunk := chunks.get(name)) is not None and (request.tenant is None or chunk.tenant == request.tenant)
    ]


def _results(ranking: Ranking, chunks: Mapping[str, StoredChunk], request: Request) -> list[Result]:
    return [_result(rank, score, chunks[name], request) for rank, (name, score) in enumerate(ranking[: request.k], 1)]


def _result(rank: int, score: float, chunk: StoredChunk, request: Request) -> Result:
    metadata = chunk.metadata
    if request.columns is not None:
        metadata = {name: value for name, value in metadata.items() if name in request.columns}
    return Result(
        rank=rank,
        score=score,
        id=chunk.id,
        key=chunk.key,
        text=chunk.text,
        source=chunk.source,
        start=chunk.start,
        end=chunk.end,
        page=chunk.page,
        heading=chunk.heading,
        metadata=metadata,
    )
