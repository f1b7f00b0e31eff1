"""Searches a published shard of Qdrant's embedded engine.

Whoever opens or closes a shard writes small files of it anew, with what is in them already; so that is done by one
process at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.config.index import QdrantEdgeConfig
from genai.errors import GenaiError
from genai.index.engines.edge_filters import edge_filter
from genai.index.engines.edge_notes import read_notes
from genai.index.engines.qdrant_filters import DENSE, WORDS, oversampling
from genai.index.engines.states import States
from genai.index.filters import Filter
from genai.index.interfaces import Hit, SparseVector, VectorQuery
from genai.storage.locks import exclusive

if TYPE_CHECKING:
    import qdrant_edge
    from qdrant_edge import EdgeShard

_LOAD_WAIT_S = 120.0
_SCROLL_POINTS = 10_000
_LOOK, _LOOK_AT_MOST = 40, 100
"""Nearest points that are looked at, whether or not they pass, to see how a filter goes with a query."""
_SPARE = 1.5
"""Times as many points are looked at as should be needed for the limit to pass."""
_FAR = 0.5
"""Below this share of those expected to pass, what passes lies elsewhere."""
_MUCH, _MUCH_EFFORT = 0.3, 1.25
"""From this share on what passes is joined well enough to be walked by itself, wherever the query lies, with so many
times `hnsw.ef`: in a mixture of which a half passes, cut across the query, .98 of the true ones are found, and to look
at the nearest points first costs more than it saves."""
_FILTERED_EFFORT = 2
"""Times `hnsw.ef`: among points that pass a filter the graph has fewer ways, so that more of them are tried."""


class EdgeReader:
    """A state that this process has open."""

    def __init__(self, states: States, config: QdrantEdgeConfig, token: str) -> None:
        self._ef = config.hnsw.ef
        self._exact_below = config.exact_below
        self._closed = False
        self._held = states.hold(token)
        try:
            with _loading(self._held.path):
                self.shard = load_shard(states, self._held.path)
            self._scanned = read_notes(states, self._held.path).exact_below
            self._num_points = self.shard.info().points_count
        except BaseException:
            self._held.close()
            raise

    def search(self, queries: Sequence[VectorQuery]) -> list[list[Hit]]:
        """The best points for each query."""
        from qdrant_edge import QueryBatchRequest

        if not queries:
            return []
        if any(query.filter is not None for query in queries):
            return [_hits(self._filtered(query, edge_filter(query.filter))) for query in queries]
        requests = [self._request(query) for query in queries]
        if len(requests) == 1:
            return [_hits(self.shard.query(requests[0]))]
        return [_hits(points) for points in self.shard.query_batch(QueryBatchRequest(requests))]

    def count(self, filter: Filter | None = None) -> int:
        """How many points pass."""
        from qdrant_edge import CountRequest

        return self.shard.count(CountRequest(exact=True, filter=edge_filter(filter)))

    def close(self) -> None:
        """Let go of the state."""
        if not self._closed:
            self._closed = True
            with _loading(self._held.path):
                self.shard.close()
            self._held.close()

    def _filtered(self, query: VectorQuery, filter: qdrant_edge.Filter | None) -> list[qdrant_edge.ScoredPoint]:
        """What passes, found in the cheapest way that finds enough.

        Little is compared one by one, which the engine sees to; among much the graph is searched at once. In between,
        enough may be among the nearest points of all. Where it is not, the graph is searched among what passes, which
        is fast and good as long as that lies about everywhere; where it lies elsewhere than the query the graph is
        walked over what does not pass as well (ACORN).

        Source:
            Patel et al. (2024), ACORN: Performant and Predicate-Agnostic Search Over Vector Embeddings and Structured
            Data.
        """
        import qdrant_edge

        if filter is None or isinstance(query.vector, SparseVector):
            return self.shard.query(self._request(query, filter))
        num_passing = self.shard.count(qdrant_edge.CountRequest(exact=False, filter=filter))
        if num_passing <= max(self._scanned, self._exact_below):
            # the engine does so by itself up to what it was told when the shard was begun
            return self.shard.query(self._request(query, filter, exact=num_passing > self._scanned))
        share = num_passing / self._num_points
        if share >= _MUCH:
            return self.shard.query(self._request(query, filter, effort=_MUCH_EFFORT))
        look = math.ceil(_SPARE * query.limit / share) + 10
        look = look if look <= _LOOK_AT_MOST else _LOOK
        near = self.shard.query(self._request(query, limit=look))
        among = qdrant_edge.Filter(must=[qdrant_edge.HasIdCondition({point.id for point in near}), filter])
        passing = self.shard.query(self._request(query, among))
        if len(passing) == query.limit:
            return passing
        if len(passing) >= _FAR * share * look:
            return self.shard.query(self._request(query, filter, effort=_FILTERED_EFFORT))
        return self.shard.query(self._request(query, filter, elsewhere=True))

    def _request(
        self,
        query: VectorQuery,
        filter: qdrant_edge.Filter | None = None,
        *,
        limit: int | None = None,
        effort: float = 1,
        exact: bool = False,
        elsewhere: bool = False,
    ) -> qdrant_edge.QueryRequest:
        import qdrant_edge

        if isinstance(query.vector, SparseVector):
            nearest = qdrant_edge.Query.Nearest(sparse_vector(query.vector), WORDS)
        else:
            nearest = qdrant_edge.Query.Nearest(query.vector.tolist(), DENSE)
        limit = query.limit if limit is None else limit
        params = qdrant_edge.SearchParams(
            hnsw_ef=max(round(self._ef * effort), limit),
            exact=exact,
            quantization=qdrant_edge.QuantizationSearchParams(rescore=True, oversampling=oversampling(limit)),
            acorn=qdrant_edge.AcornSearchParams(enable=True, max_selectivity=1.0) if elsewhere else None,
        )
        return qdrant_edge.QueryRequest(
            limit=limit, query=nearest, filter=filter, params=params, with_payload=False, with_vector=False
        )


def load_shard(states: States, folder: Path) -> EdgeShard:
    """Open a shard.

    Raises:
        DataError: it is damaged.
    """
    from qdrant_edge import EdgeShard

    try:
        return EdgeShard.load(str(folder))
    except BaseException as error:  # a panic of Rust is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | GenaiError):
            raise
        raise states.damaged(folder, str(error)) from error


def scroll_ids(shard: EdgeShard) -> Iterator[str]:
    """The ids of all points, in their order."""
    from qdrant_edge import ScrollRequest

    offset: Any = None
    while True:
        records, offset = shard.scroll(
            ScrollRequest(offset=offset, limit=_SCROLL_POINTS, with_payload=False, with_vector=False)
        )
        yield from (str(record.id) for record in records)
        if offset is None:
            return


def sparse_vector(vector: SparseVector) -> qdrant_edge.SparseVector:
    """The same in the engine's words."""
    import qdrant_edge

    return qdrant_edge.SparseVector(vector.indices.tolist(), vector.values.tolist())


def _loading(state: Path) -> AbstractContextManager[None]:
    """Held by who opens or closes a published state."""
    return exclusive(state.with_name(f"{state.name}.load"), timeout_s=_LOAD_WAIT_S)


def _hits(points: Sequence[qdrant_edge.ScoredPoint]) -> list[Hit]:
    hits = [Hit(id=str(point.id), score=point.score) for point in points]
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))
