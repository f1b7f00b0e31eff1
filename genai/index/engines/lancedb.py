"""LanceDB as engine: tables on this machine's disk or in a bucket.

A generation is a table; every write makes a new version of it, and a state is one of these versions, which stays as it
is. Old versions are kept for `KEEP_S`, long enough for readers that have one open, since a bucket knows no locks.

Vectors are searched by LanceDB: compared one by one, or along an index once there are more than `exact_below`. It has
no sparse vectors, so the words of all points are read into memory by the first query for words, and scored there.
"""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genai.config.index import LanceDbConfig
from genai.errors import DataError, GenaiError, MissingExtraError
from genai.index.engines.lancedb_filters import filter_sql
from genai.index.engines.lancedb_rows import Words, add_columns, make_rows, make_schema, read_words
from genai.index.filters import Filter
from genai.index.interfaces import Hit, Point, SparseVector, Spec, VectorQuery
from genai.log import get_logger
from genai.storage import atomic, is_remote

if TYPE_CHECKING:
    from lancedb.db import DBConnection
    from lancedb.table import Table

KEEP_S = 3600.0
"""How long a state that is needed no more is kept for readers that may have it open."""
_BUFFERED_POINTS = 5000
"""Points that become one write: each makes a version and a file."""
_DELETED_IDS = 500
"""In one condition."""
_LOOSE_FILES = 20
"""More files are made one, more old versions are removed."""
_EF = 128
_REFINE = 4
"""Candidates of the index, whose vectors are rounded to bytes, that are compared exactly, for each result."""
_NEVER = timedelta(days=36_500)
_NEEDED = "needed"
_log = get_logger(__name__)


class LanceDbEngine:
    """Met by a job file's `engine: {name: lancedb}`.

    Raises:
        MissingExtraError: the package is not installed.
    """

    def __init__(self, config: LanceDbConfig, folder: Path, *, index: str) -> None:
        if importlib.util.find_spec("lancedb") is None:
            raise MissingExtraError("lancedb", extra="lancedb", needed_for="engine lancedb")
        self._config = config
        base = str(folder) if config.uri is None else config.uri.rstrip("/")
        self._uri = f"{base}/{atomic.safe_name(index, kind='index')}"
        self._index = index

    def writer(self, spec: Spec, token: str | None) -> LanceDbWriter:
        """Go on from a version of a table, or begin a new table."""
        with _explained(self._uri, self._index):
            if token is None:
                name = f"{atomic.safe_name(spec.generation)}.{secrets.token_hex(4)}"
                table = self._database.create_table(name, schema=make_schema(spec))
            else:
                table, version = self._table(token)
                if table.version != version:  # a writer died before its version was noted
                    table.checkout(version)
                    table.restore()
                add_columns(table, make_schema(spec))
        return LanceDbWriter(table, spec, self._config.exact_below, self._uri, self._index)

    def reader(self, spec: Spec, token: str) -> LanceDbReader:
        """Open a version of a table."""
        with _explained(self._uri, self._index):
            table, version = self._table(token)
            table.checkout(version)
        return LanceDbReader(table, spec, self._config.exact_below, self._uri, self._index)

    def sweep(self, tokens: Mapping[str, str | None]) -> None:
        """Remove what is not named and older than `KEEP_S`; everything at once when nothing is named."""
        wanted = dict(_split(token) for token in tokens.values() if token is not None)
        with _explained(self._uri, self._index):
            if not is_remote(self._uri) and not Path(self._uri).is_dir():
                return
            for name in self._database.list_tables().tables:
                table = self._database.open_table(name)
                if name not in wanted:
                    if not tokens or _age_s(table) > KEEP_S:
                        _log.info("removing the table %s of %s", name, self._uri)
                        self._database.drop_table(name)
                elif table.version == wanted[name] and _num_old(table) > _LOOSE_FILES:
                    _prune(table)

    @cached_property
    def _database(self) -> DBConnection:
        import lancedb

        return lancedb.connect(self._uri, storage_options=_storage_options(self._uri))

    def _table(self, token: str) -> tuple[Table, int]:
        name, version = _split(token)
        return self._database.open_table(name), version


class LanceDbWriter:
    """Collects points and writes many at once."""

    def __init__(self, table: Table, spec: Spec, exact_below: int, uri: str, index: str) -> None:
        self._table = table
        self._spec = spec
        self._exact_below = exact_below
        self._where = (uri, index)
        self._is_new = table.count_rows() == 0
        self._waiting: dict[str, Point | None] = {}

    def upsert(self, points: Sequence[Point]) -> None:
        """Put points there, in place of those with the same ids."""
        for point in points:
            self._waiting[point.id] = point
        self._write(_BUFFERED_POINTS)

    def delete(self, ids: Sequence[str]) -> None:
        """Remove points."""
        self._waiting.update(dict.fromkeys(ids))
        self._write(_BUFFERED_POINTS)

    def ids(self) -> Iterator[str]:
        """Of all points."""
        self._write(1)
        with _explained(*self._where):
            rows = self._table.search().select(["id"]).limit(None).to_arrow()
        yield from rows["id"].to_pylist()

    def publish(self) -> str:
        """Write what waits, and bring files and index into shape where that is worth it."""
        self._write(1)
        with _explained(*self._where):
            self._maintain()
            return f"{self._table.name}:{self._table.version}"

    def close(self) -> None:
        """Drop what waits."""
        self._waiting = {}

    def _write(self, least: int) -> None:
        """Write when `least` points wait.

        Rows are replaced by removing and adding them: `merge_insert` can do nothing, silently, after the table was
        optimised (https://github.com/lancedb/lancedb/issues/3177).
        """
        if len(self._waiting) < least:
            return
        with _explained(*self._where):
            ids = [] if self._is_new else list(self._waiting)
            for start in range(0, len(ids), _DELETED_IDS):
                listed = ", ".join(f"'{_checked(id)}'" for id in ids[start : start + _DELETED_IDS])
                self._table.delete(f"id IN ({listed})")
            points = [point for point in self._waiting.values() if point is not None]
            if points:
                self._table.add(make_rows(points, self._spec))
                self._is_new = False
        self._waiting = {}

    def _maintain(self) -> None:
        stats: Any = self._table.stats()  # a mapping, whatever its type says
        if stats["fragment_stats"]["num_fragments"] > _LOOSE_FILES:
            self._table.optimize(cleanup_older_than=_NEVER)
        num_rows = self._table.count_rows()
        if num_rows <= self._exact_below:
            return
        index = self._table.index_stats("dense_idx")
        if index is None or index.num_unindexed_rows > max(self._exact_below, num_rows // 4):
            from lancedb.index import HnswSq

            parts = max(1, num_rows >> 20)
            config = HnswSq(distance_type="cosine", num_partitions=parts, m=16, ef_construction=100)
            self._table.create_index("dense", config=config, name="dense_idx", replace=True)


class LanceDbReader:
    """One version of a table. Threads may search at the same time."""

    def __init__(self, table: Table, spec: Spec, exact_below: int, uri: str, index: str) -> None:
        self._table = table
        self._spec = spec
        self._exact_below = exact_below
        self._where = (uri, index)

    def search(self, queries: Sequence[VectorQuery]) -> list[list[Hit]]:
        """The best points for each query, one after the other."""
        counts: dict[Filter | None, int] = {}
        results = []
        with _explained(*self._where):
            for query in queries:
                if isinstance(query.vector, SparseVector):
                    results.append(self._words.search(query.vector, query.limit, query.filter))
                    continue
                if query.filter not in counts:
                    counts[query.filter] = self.count(query.filter)
                results.append(self._nearest(query, counts[query.filter]))
        return results

    def count(self, filter: Filter | None = None) -> int:
        """How many points pass."""
        with _explained(*self._where):
            found = self._table.count_rows() if filter is None else self._table.count_rows(filter_sql(filter))
        return int(found)

    def close(self) -> None:
        """Nothing is held."""

    def _nearest(self, query: VectorQuery, num_passing: int) -> list[Hit]:
        """Exact for a filter that leaves little: an index over all of them would find too few."""
        vector: Any = query.vector
        if num_passing == 0 or not np.any(vector):
            return []
        search: Any = self._table.search(vector, vector_column_name="dense")
        search = search.distance_type("cosine")
        if query.filter is not None:
            search = search.where(filter_sql(query.filter), prefilter=True)
        if num_passing <= self._exact_below:
            search = search.bypass_vector_index()
        else:
            search = search.ef(max(_EF, 2 * query.limit)).refine_factor(_REFINE).nprobes(20)
        rows = search.select(["id", "_distance"]).limit(query.limit).to_arrow()
        pairs = zip(rows["id"].to_pylist(), rows["_distance"].to_pylist(), strict=True)
        return sorted((Hit(id=id, score=1.0 - distance) for id, distance in pairs), key=_rank)

    @cached_property
    def _words(self) -> Words:
        return read_words(self._table, self._spec)


def _prune(table: Table) -> None:
    """Remove versions that are older than `KEEP_S`, but never the newest one, which is needed.

    LanceDB may make yet another version on the way; the tag makes it stop before it takes the needed one for old.
    """
    tags = table.tags
    if _NEEDED in tags.list():
        tags.update(_NEEDED, table.version)
    else:
        tags.create(_NEEDED, table.version)
    try:
        table.optimize(cleanup_older_than=timedelta(seconds=KEEP_S))
    except RuntimeError as error:
        if "tagged" not in str(error):
            raise
        _log.debug("old versions of %s stay for now: %s", table.name, error)


def _rank(hit: Hit) -> tuple[float, str]:
    return -hit.score, hit.id


def _split(token: str) -> tuple[str, int]:
    name, _, version = token.rpartition(":")
    return name, int(version)


def _checked(id: str) -> str:
    if not re.fullmatch(r"[0-9a-f-]{36}", id):
        raise DataError(f"{id!r} is no id of a chunk")
    return id


def _age_s(table: Table) -> float:
    return min(_ages_s(table), default=0.0)


def _num_old(table: Table) -> int:
    return sum(age_s > KEEP_S for age_s in _ages_s(table))


def _ages_s(table: Table) -> list[float]:
    now = time.time()
    return [now - version["timestamp"].timestamp() for version in table.list_versions()]


def _storage_options(uri: str) -> dict[str, str] | None:
    """What the environment says in the words of other AWS tools, where LanceDB would not find it itself."""
    if not uri.startswith("s3://"):
        return None
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    options = {"region": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"}
    if endpoint:
        options |= {"endpoint": endpoint, "allow_http": str(endpoint.startswith("http://")).lower()}
    return options


@contextmanager
def _explained(uri: str, index: str) -> Iterator[None]:
    """Turn LanceDB's errors into ours."""
    try:
        yield
    except (FileNotFoundError, ValueError, RuntimeError, OSError) as error:
        text = str(error)
        first = text.strip().partition("\n")[0]
        if re.search(r"not found|no longer exists|does not exist", text, re.IGNORECASE):
            raise DataError(
                f"this state of the index is not there (any more): {first}",
                where=uri,
                fix=f"`genai index rebuild {index}` makes it anew from the ledger, without embedding anything",
            ) from error
        raise GenaiError(f"LanceDB: {first}", where=uri) from error
