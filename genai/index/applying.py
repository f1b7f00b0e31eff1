"""Brings the engine up to the ledger: points are made of chunks and their vectors, published, and noted.

Nothing is lost by a kill: what was published and not noted is rubbish that the engine sweeps, and the same changes are
applied again to the state that was noted. Nothing here embeds, unless a chunk lacks its vector.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genai.config.index import BM25Config, IndexConfig
from genai.errors import DataError, GenaiError
from genai.index.encoding import embed_missing, has_missing
from genai.index.generations import begin_generation, note_average, note_published
from genai.index.interfaces import Encoder, Engine, NamedByAlias, Point, Writer
from genai.index.ledger import Ledger
from genai.index.ledger_records import Generation, GenerationState
from genai.index.shape import Shape
from genai.index.words import Analyzer, document_vector
from genai.log import get_logger, progress

CHUNKS_A_PAGE = 1000
"""How many are read from the ledger and given to the engine at once."""
LENGTH_SAMPLE = 2000
"""Chunks whose words are counted for the average length: its standard error is then some 2 %."""
GROWTH = 4
"""The average is looked at again when there are so many times the chunks that it was taken over."""
DRIFT = 0.25
"""A share by which the average may be off before the points are made anew with a new one."""
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Applier:
    """What it takes to bring generations up to the ledger.

    Only the process that holds `ledger.alone()` may use it.
    """

    ledger: Ledger
    engine: Engine
    config: IndexConfig
    shape: Shape
    """That points are to have."""
    encoder_of: Callable[[Generation], Encoder]
    """The encoder of a generation: asked for only when a chunk lacks its vector."""
    embedded: Callable[[int], None] = lambda _: None
    """Is told how many texts were embedded."""

    def bring_up(self, generation: Generation, *, state: GenerationState | None = None) -> Generation:
        """The generation with everything in the ledger applied and published.

        Args:
            generation: as the ledger has it. Its points are made anew when they should have another shape, when the
                index has outgrown the average length that they were made with, or when the engine's files are gone.
            state: what it is from then on; None leaves that as it is.
        """
        if reason := self._outdated(generation):
            return self.remake(generation, reason, state=state)
        if generation.token is not None and generation.applied == self.ledger.sequence():
            return generation if state is None else self._note(generation, generation.token, state)
        self._complete(generation)
        if generation.average_of == 0:
            generation = self._take_average(generation)
        try:
            return self._apply(generation, state)
        except DataError as error:
            if generation.token is None:
                raise
            _log.warning("index '%s': %s", self.ledger.name, error)
            return self.remake(generation, "the engine's files cannot be gone on with", state=state)

    def remake(self, generation: Generation, reason: str, *, state: GenerationState | None = None) -> Generation:
        """Make all points anew from the ledger, as a generation that takes this one's place in one transaction."""
        _log.info("index '%s': its points are made anew from the ledger (%s)", self.ledger.name, reason)
        fresh = begin_generation(
            self.ledger,
            embedding=generation.embedding,
            fingerprint=generation.fingerprint,
            dimension=generation.dimension,
            shape=self.shape,
            resume=False,
        )
        self._complete(fresh)
        fresh = self._take_average(fresh)
        return self._apply(fresh, state or generation.state, instead_of=generation.name)

    def sweep(self) -> None:
        """Let the engine name what is live, where it has names, and remove what no generation needs."""
        live = self.ledger.live()
        if live is not None and live.token is not None and isinstance(self.engine, NamedByAlias):
            self.engine.make_live(live.spec(self.ledger.name), live.token)
        self.engine.sweep({generation.name: generation.token for generation in self.ledger.generations()})

    def _outdated(self, generation: Generation) -> str | None:
        """Why its points cannot be gone on with."""
        if generation.token is None:
            return None
        if generation.shape != self.shape.fingerprint:
            return "columns, bm25 or engine are configured differently"
        if self.ledger.num_chunks() >= GROWTH * max(generation.average_of, 1):
            average, num_chunks = self._average()
            if abs(average - generation.average_length) > DRIFT * generation.average_length:
                return "chunks have another average length by now"
            note_average(self.ledger, generation.name, average_length=generation.average_length, average_of=num_chunks)
        return None

    def _complete(self, generation: Generation) -> None:
        """Embed what lacks a vector: chunks that came while this generation was not the one that syncs embed for."""
        above = 0 if generation.token is None else generation.applied
        if has_missing(self.ledger, generation.fingerprint, above):
            encoder = self.encoder_of(generation)
            if encoder.fingerprint != generation.fingerprint:
                what = f"the encoder of generation '{generation.name}' gives other vectors than before"
                raise GenaiError(what, where=self.ledger.name, fix="bring back its model, or drop the generation")
            size = self.config.sync.batch_size
            embed_missing(self.ledger, encoder, batch_size=size, above=above, progress=self.embedded)

    def _take_average(self, generation: Generation) -> Generation:
        average, num_chunks = self._average()
        return note_average(self.ledger, generation.name, average_length=average, average_of=num_chunks)

    def _average(self) -> tuple[float, int]:
        """Terms a chunk, over a sample, and how many chunks there are."""
        analyzer = Analyzer(self.config.bm25.language)
        lengths = [len(analyzer.terms(chunk.text)) for chunk in self.ledger.sample(LENGTH_SAMPLE)]
        return max(1.0, sum(lengths) / max(len(lengths), 1)), self.ledger.num_chunks()

    def _apply(
        self, generation: Generation, state: GenerationState | None, *, instead_of: str | None = None
    ) -> Generation:
        newest = self.ledger.sequence()
        writer = self.engine.writer(generation.spec(self.ledger.name), generation.token)
        try:
            self._write(writer, generation, newest)
            token = writer.publish()
        finally:
            writer.close()
        return note_published(
            self.ledger,
            generation.name,
            token=token,
            applied=newest,
            points=self.ledger.num_chunks(),
            state=state,
            instead_of=instead_of,
        )

    def _note(self, generation: Generation, token: str, state: GenerationState) -> Generation:
        applied, points = generation.applied, generation.points
        return note_published(self.ledger, generation.name, token=token, applied=applied, points=points, state=state)

    def _write(self, writer: Writer, generation: Generation, newest: int) -> None:
        (purged,) = self.ledger.rows("SELECT purged FROM status")[0]
        if generation.token is not None and generation.applied < purged:
            # Tombstones that it never saw are gone: what must go is what the ledger does not have.
            live = {id_ for (id_,) in self.ledger.rows("SELECT id FROM chunks WHERE removed = 0")}
            writer.delete(sorted(set(writer.ids()) - live))
        make = PointMaker(self.config.bm25, generation)
        with progress("applying", None) as task:
            done = 0
            for rows in changed_chunks(self.ledger, generation, newest):
                writer.delete([row.id for row in rows if row.removed])
                writer.upsert([make(row) for row in rows if not row.removed])
                done += len(rows)
                task.update(done, unit="chunks")


@dataclass(frozen=True, kw_only=True)
class ChangedChunk:
    """What a point is made of."""

    id: str
    removed: bool
    text: str
    metadata: str
    """JSON."""
    tenant: str | None
    vector: bytes | None
    """None of a tombstone."""


class PointMaker:
    """Makes the points of a generation.

    Args:
        bm25: how words are counted.
        generation: whose average length and tenants.
    """

    def __init__(self, bm25: BM25Config, generation: Generation) -> None:
        self._bm25 = bm25
        self._generation = generation
        self._analyzer = Analyzer(bm25.language)

    def __call__(self, chunk: ChangedChunk) -> Point:
        """The point of a chunk."""
        assert chunk.vector is not None, chunk.id
        terms = self._analyzer.terms(chunk.text)
        payload: dict[str, Any] = json.loads(chunk.metadata)
        if self._generation.has_tenants:
            payload["_tenant"] = chunk.tenant
        return Point(
            id=chunk.id,
            dense=np.frombuffer(chunk.vector, "<f2").astype(np.float32),
            sparse=document_vector(terms, self._generation.average_length, self._bm25.k1, self._bm25.b),
            payload=payload,
        )


def changed_chunks(ledger: Ledger, generation: Generation, upto: int) -> Iterator[Sequence[ChangedChunk]]:
    """What changed since the generation's published state, in portions; all chunks that are there without one."""
    first = generation.token is None
    only = "AND c.removed = 0" if first else ""
    sql = (
        "SELECT c.sequence, c.removed, c.number, c.id, c.text, d.metadata, d.tenant, e.vector "
        "FROM chunks c JOIN documents d ON d.number = c.document "
        "LEFT JOIN embeddings e ON e.hash = c.hash "
        "AND e.model = (SELECT number FROM models WHERE fingerprint = ?) "
        f"WHERE (c.sequence, c.removed, c.number) > (?, ?, ?) AND c.sequence <= ? {only} "
        "ORDER BY c.sequence, c.removed, c.number LIMIT ?"
    )
    after = (0 if first else generation.applied, 1, 1 << 62)  # all of that sequence is behind us
    while rows := ledger.rows(sql, (generation.fingerprint, *after, upto, CHUNKS_A_PAGE)):
        yield [
            ChangedChunk(id=id_, removed=bool(removed), text=text, metadata=metadata, tenant=tenant, vector=vector)
            for _, removed, _, id_, text, metadata, tenant, vector in rows
        ]
        after = rows[-1][:3]
