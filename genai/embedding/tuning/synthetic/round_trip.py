"""The round trip: a query is of use when the model to be tuned finds its passage among the first k.

A query that does not find it may be too vague, or of another passage; a model that learns from it learns the wrong
thing.

Source:
    Dai et al. 2022, "Promptagator: Few-shot Dense Retrieval From 8 Examples", 3.2 (round-trip filtering).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from genai.data.retrieval.records import Passage
from genai.embedding.tuning.interfaces import NeighboursOf, TextEmbedder, Vectors
from genai.embedding.tuning.synthetic.drafts import Draft, Dropped, dropped
from genai.log import get_logger

_log = get_logger(__name__)


def round_trip(
    drafts: Sequence[Draft],
    corpus: Sequence[Passage],
    *,
    k: int,
    embedder: TextEmbedder,
    neighbours_of: NeighboursOf,
    vectors: Vectors | None = None,
) -> tuple[list[Draft], list[Dropped]]:
    """Queries that find their passage, with its rank noted, and those that do not.

    Args:
        drafts: what was made.
        corpus: what is searched; every draft's passage is in it.
        k: among the first so many the passage must be.
        embedder: the model to be tuned.
        neighbours_of: finds the nearest passages.
        vectors: of the corpus, where they are known already.
    """
    if not drafts:
        return [], []
    if k >= len(corpus):
        _log.warning("round_trip_k %d is as large as the corpus (%d): the round trip drops nothing", k, len(corpus))
    if vectors is None:
        vectors = np.asarray(embedder.embed_documents([passage.text for passage in corpus]), dtype=np.float32)
    queries = np.asarray(embedder.embed_queries([draft.query for draft in drafts]), dtype=np.float32)
    nearest, _ = neighbours_of(vectors).nearest(queries, min(k, len(corpus)))
    places = {passage.key: place for place, passage in enumerate(corpus)}
    kept: list[Draft] = []
    lost: list[Dropped] = []
    for draft, row in zip(drafts, nearest, strict=True):
        rank = _rank(row, places[draft.passage.key])
        if rank is None:
            lost.append(dropped(draft, f"not found among the first {k}"))
        else:
            kept.append(draft.noted(round_trip_rank=str(rank)))
    return kept, lost


def _rank(row: NDArray[np.int64], place: int) -> int | None:
    """From 1; None where it is not in the row."""
    found = np.flatnonzero(row == place)
    return int(found[0]) + 1 if found.size else None
