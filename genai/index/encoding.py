"""From texts to the bytes of their vectors, and whatever chunks lack a vector of some encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from genai.errors import DataError
from genai.index.interfaces import Encoder
from genai.index.ledger import Ledger
from genai.index.ledger_writing import batch

_BATCHES_A_READ = 4
"""So many are read from the ledger and sorted by length together."""
_LACKS = (
    "NOT EXISTS (SELECT 1 FROM embeddings e JOIN models m ON m.number = e.model "
    "WHERE m.fingerprint = ? AND e.hash = c.hash)"
)
"""Of a chunk `c` and a fingerprint."""
Progress = Callable[[int], None]
"""Is told how many chunks were embedded."""


def encode(encoder: Encoder, texts: Sequence[str]) -> list[bytes]:
    """Vectors as the ledger keeps them: float16, little-endian.

    Raises:
        DataError: the encoder gave something else than one finite vector a text.
    """
    if not texts:
        return []
    vectors = encoder.embed_documents(texts)
    if vectors.shape != (len(texts), encoder.dimension):
        what = f"the encoder gave vectors of shape {vectors.shape} for {len(texts)} texts"
        raise DataError(what, fix=f"({len(texts)}, {encoder.dimension}) was expected: see the section embedding")
    with np.errstate(over="ignore"):
        halves = vectors.astype("<f2")
    if not np.isfinite(halves).all():
        row = int(np.flatnonzero(~np.isfinite(halves).all(axis=1))[0])
        what = f"the encoder gave numbers that are not finite, or above 65,504, for the text {texts[row][:60]!r}"
        raise DataError(what, fix="use precision: fp32 and normalize: true, or another model")
    return [vector.tobytes() for vector in halves]


def slices(missing: Mapping[bytes, str], batch_size: int) -> Iterator[list[tuple[bytes, str]]]:
    """Pairs of hash and text in portions, texts of like length together: less padding."""
    ordered = sorted(missing.items(), key=lambda pair: (len(pair[1]), pair[0]))
    for begin in range(0, len(ordered), batch_size):
        yield ordered[begin : begin + batch_size]


def embed_missing(
    ledger: Ledger, encoder: Encoder, *, batch_size: int, above: int = 0, progress: Progress | None = None
) -> int:
    """Embed all chunks that have no vector of this encoder; each batch is committed by itself.

    Args:
        ledger: where they are.
        encoder: that they lack.
        batch_size: chunks a batch.
        above: only chunks whose sequence is above it.
        progress: is told after each batch.

    Returns:
        how many texts were embedded.
    """
    done = 0
    for missing in _missing(ledger, encoder.fingerprint, above, _BATCHES_A_READ * batch_size):
        for some in slices(missing, batch_size):
            vectors = encode(encoder, [text for _, text in some])
            with batch(ledger) as changes:
                pairs = zip((digest for digest, _ in some), vectors, strict=True)
                changes.add_embeddings(encoder.fingerprint, pairs)
            done += len(some)
            if progress is not None:
                progress(len(some))
    return done


def count_missing(ledger: Ledger, fingerprint: str) -> int:
    """How many texts have no vector of an encoder."""
    sql = f"SELECT count(DISTINCT c.hash) FROM chunks c WHERE c.removed = 0 AND {_LACKS}"
    [(count,)] = ledger.rows(sql, [fingerprint])
    assert isinstance(count, int)
    return count


def has_missing(ledger: Ledger, fingerprint: str, above: int) -> bool:
    """Whether a chunk above a sequence has no vector of an encoder."""
    return any(_missing(ledger, fingerprint, above, 1))


def _missing(ledger: Ledger, fingerprint: str, above: int, limit: int) -> Iterator[dict[bytes, str]]:
    """Texts that lack a vector by their hash, in portions, in the order in which their chunks changed."""
    sql = (
        "SELECT c.sequence, c.removed, c.number, c.hash, c.text FROM chunks c "
        f"WHERE (c.sequence, c.removed, c.number) > (?, ?, ?) AND c.removed = 0 AND {_LACKS} "
        "ORDER BY c.sequence, c.removed, c.number LIMIT ?"
    )
    after = (above, 1, 1 << 62)  # all of that sequence is behind us
    while rows := ledger.rows(sql, (*after, fingerprint, limit)):
        yield {digest: text for *_, digest, text in rows}
        after = rows[-1][:3]
