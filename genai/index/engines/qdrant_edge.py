"""Qdrant's engine inside of this process, on this machine's disk: the default.

A published state is a shard in a folder of its own that is never written again, so that any number of processes can
have it open while a new one is written: a copy of the last one (the large files, which are never written twice, are
shared by hard links) with the changes put in. There is no write-ahead log: what was not published is worth nothing,
and the ledger has it all.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.config.index import QdrantEdgeConfig
from genai.errors import GenaiError, MissingExtraError
from genai.index.engines.edge_notes import INDEXED_SHARE, Notes, read_notes
from genai.index.engines.edge_optimize import optimize
from genai.index.engines.edge_reader import EdgeReader, load_shard, scroll_ids, sparse_vector
from genai.index.engines.qdrant_filters import DENSE, WORDS, payload_indexes, payload_of
from genai.index.engines.states import States, copy_state, sweep_states
from genai.index.interfaces import Point, Spec
from genai.storage import atomic

if TYPE_CHECKING:
    import qdrant_edge
    from qdrant_edge import EdgeShard

NEVER_WRITTEN_AGAIN = frozenset(
    {"matrix.dat", "quantized.data", "graph.bin", "links_compressed.bin", "inverted_index.dat"}
)
"""Vectors, graph and inverted index of a segment that takes no more points: the bulk of a state."""
_UPSERT_POINTS = 1000
_OWN_PROCESS_POINTS = 5000
"""Graphs over fewer points are built in this process: that takes less than a few seconds."""
_NO_LIMIT_KB = 1 << 32
_SPARE_BYTES = 256 << 20
"""What must be free on the disk: files are mapped into memory, where a full disk ends the process."""


class QdrantEdgeEngine:
    """Met by a job file's `engine: {name: qdrant_edge}`.

    Raises:
        MissingExtraError: the package is not installed.
    """

    def __init__(self, config: QdrantEdgeConfig, folder: Path, *, index: str) -> None:
        if importlib.util.find_spec("qdrant_edge") is None:
            raise MissingExtraError("qdrant_edge", extra="index", needed_for="engine qdrant_edge")
        self._config = config
        self._folder = folder
        self._index = index

    def writer(self, spec: Spec, token: str | None) -> EdgeWriter:
        """Go on from a published state, or begin an empty one."""
        return EdgeWriter(self._states(spec), self._config, spec, token)

    def reader(self, spec: Spec, token: str) -> EdgeReader:
        """Open a published state."""
        return EdgeReader(self._states(spec), self._config, token)

    def sweep(self, tokens: Mapping[str, str | None]) -> None:
        """Remove all states but those that are named or open."""
        sweep_states(self._folder, tokens)

    def _states(self, spec: Spec) -> States:
        return States(self._folder, spec.generation, index=self._index)


class EdgeWriter:
    """Copies the last state when the first change comes."""

    def __init__(self, states: States, config: QdrantEdgeConfig, spec: Spec, token: str | None) -> None:
        self._states = states
        self._config = config
        self._spec = spec
        self._token = token
        self._notes = Notes(exact_below=config.exact_below) if token is None else _read_notes(states, token)
        self._scratch: Path | None = None
        self._shard: EdgeShard | None = None
        self._shared: frozenset[Path] = frozenset()

    def upsert(self, points: Sequence[Point]) -> None:
        """Put points there, in place of those with the same ids."""
        from qdrant_edge import UpdateOperation

        if not points:
            return
        shard = self._open()
        for start in range(0, len(points), _UPSERT_POINTS):
            batch = [self._point(point) for point in points[start : start + _UPSERT_POINTS]]
            self._check_room()
            shard.update(UpdateOperation.upsert_points(batch))
            self._notes.num_loose += len(batch)

    def delete(self, ids: Sequence[str]) -> None:
        """Remove points."""
        from qdrant_edge import UpdateOperation

        if ids:
            self._open().update(UpdateOperation.delete_points(list(ids)))
            self._notes.num_deleted += len(ids)

    def ids(self) -> Iterator[str]:
        """Of all points, in their order."""
        if self._shard is not None or self._token is None:
            yield from scroll_ids(self._open())
            return
        reader = EdgeReader(self._states, self._config, self._token)
        try:
            yield from scroll_ids(reader.shard)
        finally:
            reader.close()

    def publish(self) -> str:
        """Bring it into shape and to the disk; without a change the old state stays."""
        indexes = payload_indexes(self._spec)
        if self._token is not None and self._shard is None and indexes == self._notes.indexes:
            return self._token
        shard, scratch = self._open(), self._scratch
        assert scratch is not None
        with atomic.explain_full_disk(scratch):
            shard.flush()
            num_points = shard.info().points_count
            shard.close()
            self._shard = None
            if self._notes.is_worn(num_points):
                _optimize(scratch, num_points)
                self._notes.num_loose = self._notes.num_deleted = 0
            # this takes the journals in, which would otherwise befall the first reader
            load_shard(self._states, scratch).close()
            self._notes.write(scratch)
            self._token = self._states.publish(scratch, synced=self._shared)
        self._scratch, self._shared = None, frozenset()
        return self._token

    def close(self) -> None:
        """Drop what was not published."""
        if self._shard is not None:
            self._shard.close()
            self._shard = None
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    def _open(self) -> EdgeShard:
        """The shard that is being written."""
        if self._shard is None:
            self.close()
            self._scratch = self._states.begin()
            self._check_room()
            with atomic.explain_full_disk(self._scratch):
                self._shard = self._create() if self._token is None else self._copy(self._token)
                self._index_payload(self._shard)
        return self._shard

    def _create(self) -> EdgeShard:
        from qdrant_edge import EdgeShard

        assert self._scratch is not None
        return EdgeShard.create(str(self._scratch), _shard_config(self._config, self._spec))

    def _copy(self, token: str) -> EdgeShard:
        assert self._scratch is not None
        held = self._states.hold(token)
        try:
            self._shared = copy_state(held.path, self._scratch, linked=NEVER_WRITTEN_AGAIN)
        finally:
            held.close()
        return load_shard(self._states, self._scratch)

    def _index_payload(self, shard: EdgeShard) -> None:
        from qdrant_edge import UpdateOperation

        wanted = payload_indexes(self._spec)
        for key in self._notes.indexes.keys() - wanted.keys():
            shard.update(UpdateOperation.delete_field_index(key))
        for key, kind in wanted.items():
            if self._notes.indexes.get(key) != kind:
                shard.update(UpdateOperation.create_field_index(key, _payload_index(kind)))
        self._notes.indexes = wanted

    def _point(self, point: Point) -> qdrant_edge.Point:
        from qdrant_edge import Point as EdgePoint

        vectors: Any = {DENSE: point.dense.tolist(), WORDS: sparse_vector(point.sparse)}
        return EdgePoint(point.id, vectors, payload_of(point.payload, self._spec))

    def _check_room(self) -> None:
        assert self._scratch is not None
        free_bytes = atomic.free_bytes(self._scratch)
        if free_bytes < _SPARE_BYTES:
            raise GenaiError(
                f"the disk is nearly full: {free_bytes} bytes are free, and qdrant_edge needs {_SPARE_BYTES} to spare",
                where=str(self._scratch.parent),
                fix="make room, or put indexes_dir on another disk",
            )


def _read_notes(states: States, token: str) -> Notes:
    held = states.hold(token)
    try:
        return read_notes(states, held.path)
    finally:
        held.close()


def _optimize(folder: Path, num_points: int) -> None:
    if num_points <= _OWN_PROCESS_POINTS:
        optimize(str(folder))
        return
    module = "genai.index.engines.edge_optimize"
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", module, str(folder), str(os.getpid())], stderr=subprocess.PIPE, text=True
    )
    try:
        _, said = process.communicate()
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        reason = said.strip().rpartition("\n")[2] or f"it ended with {process.returncode}"
        raise GenaiError(f"the graph could not be built: {reason}", where=str(folder.parent))


def _payload_index(kind: str) -> Any:
    from qdrant_edge import FloatIndexParams, IntegerIndexParams, KeywordIndexParams

    match kind:
        case "tenant":
            return KeywordIndexParams(is_tenant=True)
        case "keyword":
            return KeywordIndexParams()
        case "integer":
            return IntegerIndexParams(lookup=True, range=True)
        case _:
            return FloatIndexParams()


def _shard_config(config: QdrantEdgeConfig, spec: Spec) -> qdrant_edge.EdgeConfig:
    """Vectors are searched rounded to bytes, and the best of them compared again with two bytes a number, which is what
    the ledger keeps of them. Thresholds are in kilobytes of vectors, as Qdrant counts.
    """
    import qdrant_edge

    exact_kb = max(1, config.exact_below * spec.dimension * 2 // 1024)
    dense = qdrant_edge.EdgeVectorParams(
        size=spec.dimension,
        distance=qdrant_edge.Distance.Cosine,
        datatype=qdrant_edge.VectorStorageDatatype.Float16,
        quantization_config=qdrant_edge.ScalarQuantizationConfig(
            type=qdrant_edge.ScalarType.Int8, quantile=0.99, memory=qdrant_edge.Memory.Cached
        ),
    )
    return qdrant_edge.EdgeConfig(
        vectors={DENSE: dense},
        sparse_vectors={WORDS: qdrant_edge.EdgeSparseVectorParams(modifier=qdrant_edge.Modifier.Idf)},
        hnsw_config=qdrant_edge.HnswIndexConfig(
            m=config.hnsw.m, ef_construct=config.hnsw.ef_construct, full_scan_threshold=exact_kb
        ),
        optimizers=qdrant_edge.EdgeOptimizersConfig(
            default_segment_number=1,
            max_segment_size=_NO_LIMIT_KB,
            indexing_threshold=max(1, exact_kb // INDEXED_SHARE),
        ),
        wal_enabled=False,
        max_search_threads=1,
    )
