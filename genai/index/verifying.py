"""Holds an index against itself: the ledger's own soundness, and whether the engine holds what the ledger says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from genai.index.encoding import count_missing
from genai.index.interfaces import Encoder, Engine, Hit, VectorQuery
from genai.index.ledger import Ledger
from genai.index.ledger_records import Generation, StoredChunk

_NUM_SHOWN = 3
_CHUNKS_A_READ = 5000
_SAME_VECTOR = 0.999
"""Cosine of a vector with itself after the engine and the ledger rounded it, each in its own way."""
_NUM_TIES = 20
"""Chunks with the same text have the same vector: so many are looked at to find one of them."""
_SAME_TEXT = 0.98
"""Cosine of a text's vectors from two runs of an encoder: batches of other lengths, int8 and bf16 differ a little."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was found."""

    problems: tuple[str, ...]
    """One line each; none of a sound index."""
    num_chunks: int
    """In the ledger."""
    num_points: int | None
    """In the live generation's published state; None without one, or where it cannot be read."""
    num_searched: int
    """Vectors of a sample that the engine was asked for."""
    num_embedded: int
    """Texts of the sample that were embedded again."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(ledger: Ledger, engine: Engine, *, encoder: Encoder | None = None, sample: int = 100) -> Verification:
    """Look for whatever does not fit together. Nothing is changed; `rebuild` mends what is wrong with the engine.

    Args:
        ledger: of the index.
        engine: of the index.
        encoder: embeds the sample again, to see whether it still gives the vectors of the index; None leaves that out.
        sample: how many chunks are looked at closely.

    Raises:
        GenaiError: another process changes the index.
    """
    with ledger.alone():
        problems = [*_faults_of_file(ledger), *_faults_of_chunks(ledger)]
        live, num_points, chunks = ledger.live(), None, ledger.sample(sample)
        searched = embedded = 0
        if live is None or live.token is None:
            problems.append("nothing was published yet: no generation is live")
        else:
            problems += _faults_of_embeddings(ledger, live)
            try:
                num_points, faults = _compare_ids(ledger, engine, live)
                problems += faults
                problems += _search_sample(ledger, engine, live, chunks)
                searched = len(chunks)
            except Exception as error:
                # Whatever an engine makes of damaged files, it belongs into the list.
                problems.append(f"the engine cannot read the published state: {type(error).__name__}: {error}")
            if encoder is not None:
                problems += _embed_sample(ledger, encoder, live, chunks)
                embedded = len(chunks)
        return Verification(
            problems=tuple(problems),
            num_chunks=ledger.num_chunks(),
            num_points=num_points,
            num_searched=searched,
            num_embedded=embedded,
        )


def _faults_of_file(ledger: Ledger) -> Iterator[str]:
    for (said,) in ledger.rows("PRAGMA integrity_check(10)"):
        if said != "ok":
            yield f"the ledger's file: {said}"
    for table, *_ in ledger.rows("PRAGMA foreign_key_check"):
        yield f"the ledger's file: a row of {table} belongs to nothing"


def _faults_of_chunks(ledger: Ledger) -> Iterator[str]:
    number, wrong = 0, []
    while rows := ledger.rows(
        "SELECT number, id, hash, text FROM chunks WHERE number > ? AND removed = 0 ORDER BY number LIMIT ?",
        (number, _CHUNKS_A_READ),
    ):
        wrong += [id_ for _, id_, digest, text in rows if hashlib.sha256(text.encode()).digest() != digest]
        number = rows[-1][0]
    if wrong:
        yield f"{len(wrong)} chunks have another text than they were made of ({_some(wrong)})"


def _faults_of_embeddings(ledger: Ledger, live: Generation) -> Iterator[str]:
    if missing := count_missing(ledger, live.fingerprint):
        yield f"{missing} texts have no vector of generation '{live.name}'"
    [(wrong,)] = ledger.rows(
        "SELECT count(*) FROM embeddings e JOIN models m ON m.number = e.model "
        "WHERE m.fingerprint = ? AND length(e.vector) != ?",
        (live.fingerprint, 2 * live.dimension),
    )
    if wrong:
        yield f"{wrong} vectors do not have {live.dimension} numbers"
    if live.applied != (newest := ledger.sequence()):
        yield f"the newest changes are not published (up to {live.applied} of {newest}): sync"


def _compare_ids(ledger: Ledger, engine: Engine, live: Generation) -> tuple[int, list[str]]:
    """How many points there are, and what they and the ledger do not have in common.

    Only chunks up to the published sequence count.
    """
    writer = engine.writer(live.spec(ledger.name), live.token)
    try:
        there = set(writer.ids())
    finally:
        writer.close()
    rows = ledger.rows("SELECT id, removed FROM chunks WHERE sequence <= ?", (live.applied,))
    wanted = {id_ for id_, removed in rows if not removed}
    later = {id_ for (id_,) in ledger.rows("SELECT id FROM chunks WHERE sequence > ?", (live.applied,))}
    faults = []
    if missing := sorted(wanted - there):
        faults.append(f"{len(missing)} chunks of the ledger are not in the engine ({_some(missing)})")
    if extra := sorted(there - wanted - later):
        faults.append(f"{len(extra)} points of the engine are not in the ledger ({_some(extra)})")
    return len(there), faults


def _search_sample(ledger: Ledger, engine: Engine, live: Generation, chunks: list[StoredChunk]) -> Iterator[str]:
    vectors = ledger.vectors([chunk.id for chunk in chunks], live.fingerprint)
    assert live.token is not None
    reader = engine.reader(live.spec(ledger.name), live.token)
    try:
        found = reader.search([VectorQuery(vector=vector, limit=_NUM_TIES) for vector in vectors])
    finally:
        reader.close()
    lost = [
        chunk.id
        for chunk, vector, hits in zip(chunks, vectors, found, strict=True)
        if vector.any() and not _is_among(chunk.id, hits)
    ]
    if lost:
        yield f"{len(lost)} of {len(chunks)} chunks are not found by their own vectors ({_some(lost)})"


def _is_among(id_: str, hits: Sequence[Hit]) -> bool:
    """Whether a chunk is found by its own vector, or so many with the same one are that it need not be."""
    same = [hit.id for hit in hits if hit.score >= _SAME_VECTOR]
    return id_ in same or len(same) >= _NUM_TIES


def _embed_sample(ledger: Ledger, encoder: Encoder, live: Generation, chunks: list[StoredChunk]) -> Iterator[str]:
    if encoder.fingerprint != live.fingerprint:
        yield f"the encoder is not the one of generation '{live.name}'"
        return
    kept = ledger.vectors([chunk.id for chunk in chunks], live.fingerprint)
    fresh = encoder.embed_documents([chunk.text for chunk in chunks])
    norms = np.linalg.norm(kept, axis=1) * np.linalg.norm(fresh, axis=1)
    cosines = np.einsum("nd,nd->n", kept, fresh) / np.maximum(norms, 1e-12)
    other = [chunk.id for chunk, cosine in zip(chunks, cosines, strict=True) if cosine < _SAME_TEXT]
    if other:
        least = float(cosines.min())
        yield f"the encoder gives other vectors for {len(other)} of {len(chunks)} chunks (least cosine {least:.3f})"


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:_NUM_SHOWN]) + (", ..." if len(ids) > _NUM_SHOWN else "")
