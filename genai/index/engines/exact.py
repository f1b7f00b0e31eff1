"""The exact engine: numpy arrays on disk, and every query is compared with all points that pass its filter.

Nothing is approximated and nothing has to be built, so it is the measure for the other engines, and the right choice
for up to some ten thousand chunks. A state is a folder of arrays whose rows are in the order of the ids; a new state
is written whole.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genai.config.index import ColumnType, ExactConfig
from genai.index.engines.columns import Column, Mask, filter_mask, load_column, make_column, save_column
from genai.index.engines.postings import Postings, load_postings, make_postings
from genai.index.engines.states import States, sweep_states
from genai.index.filters import Filter
from genai.index.interfaces import Hit, Point, Spec, VectorQuery, Vectors
from genai.storage import atomic

TENANT = "_tenant"
_BLOCK_SCORES = 1 << 25
"""How many scores are held at a time when many queries are answered together (128 MB)."""
_TIE = 1e-6
"""Scores that differ by less are equal: the last bits depend on where BLAS cuts the matrix."""


class ExactEngine:
    """Met by a job file's `engine: {name: exact}`."""

    def __init__(self, config: ExactConfig, folder: Path, *, index: str) -> None:
        self._folder = folder
        self._index = index

    def writer(self, spec: Spec, token: str | None) -> ExactWriter:
        """Go on from a published state, or begin an empty one."""
        return ExactWriter(States(self._folder, spec.generation, index=self._index), spec, token)

    def reader(self, spec: Spec, token: str) -> ExactReader:
        """Open a published state."""
        return ExactReader(States(self._folder, spec.generation, index=self._index), token)

    def sweep(self, tokens: Mapping[str, str | None]) -> None:
        """Remove all states but those that are named or open."""
        sweep_states(self._folder, tokens)


@dataclass(frozen=True, kw_only=True)
class _Arrays:
    """A state in memory; rows in the order of the ids."""

    ids: NDArray[np.void]
    """(rows,), the 16 bytes of each UUID."""
    dense: Vectors
    """(rows, dim), of length 1."""
    words: Postings
    kinds: Mapping[str, ColumnType]
    columns: Mapping[str, Column]

    def save(self, folder: Path) -> None:
        np.save(folder / "ids.npy", self.ids)
        np.save(folder / "dense.npy", self.dense)
        self.words.save(folder)
        for number, column in enumerate(self.columns.values()):
            save_column(column, folder, f"column{number}")
        (folder / "columns.json").write_text(json.dumps(dict(self.kinds)), encoding="utf-8")


class ExactWriter:
    """Holds what is new in memory until it is published."""

    def __init__(self, states: States, spec: Spec, token: str | None) -> None:
        self._states = states
        self._spec = spec
        self._kinds: dict[str, ColumnType] = {**spec.columns, **({TENANT: "keyword"} if spec.has_tenants else {})}
        self._token = token
        self._base = _empty(spec, self._kinds) if token is None else _load(states, token)
        self._new: dict[bytes, Point] = {}
        self._gone: set[bytes] = set()

    def upsert(self, points: Sequence[Point]) -> None:
        """Put points there, in place of those with the same ids."""
        for point in points:
            self._new[_key(point.id)] = point

    def delete(self, ids: Sequence[str]) -> None:
        """Remove points."""
        for key in map(_key, ids):
            self._new.pop(key, None)
            self._gone.add(key)

    def ids(self) -> Iterator[str]:
        """Of all points, in their order."""
        there = {key.tobytes() for key in self._base.ids} - self._gone
        yield from map(_text, sorted(there | self._new.keys()))

    def publish(self) -> str:
        """Write the new state whole; without a change the old one stays."""
        if self._token is not None and not self._new and not self._gone and self._kinds == self._base.kinds:
            return self._token
        arrays = self._merged()
        scratch = self._states.begin()
        try:
            with atomic.explain_full_disk(scratch, arrays.dense.nbytes):
                arrays.save(scratch)
                self._token = self._states.publish(scratch)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        self._base, self._new, self._gone = arrays, {}, set()
        return self._token

    def close(self) -> None:
        """Drop what was not published."""
        self._new, self._gone = {}, set()

    def _merged(self) -> _Arrays:
        """The old rows that stay and the new ones, in the order of the ids."""
        points = list(self._new.values())
        old, num_old = self._base, len(self._base.ids)
        replaced = self._gone | self._new.keys()
        stays = np.asarray([key.tobytes() not in replaced for key in old.ids], dtype=np.bool_)
        keys = np.concatenate([old.ids, _ids_array(list(self._new))])
        kept = np.concatenate([np.flatnonzero(stays), np.arange(num_old, len(keys))]).astype(np.int64)
        order = kept[np.argsort(keys[kept].view("S16"), kind="stable")] if len(kept) else kept
        position = np.full(len(keys), -1, dtype=np.int64)
        position[order] = np.arange(len(order))
        new_dense = np.asarray([point.dense for point in points], dtype=np.float32).reshape(-1, self._spec.dimension)
        return _Arrays(
            ids=keys[order],
            dense=np.concatenate([old.dense, _unit(new_dense)])[order],
            words=old.words.joined(make_postings([point.sparse for point in points]), num_old).taken(position),
            kinds=self._kinds,
            columns={name: self._column(name, points, num_old, position, len(order)) for name in self._kinds},
        )

    def _column(
        self, name: str, points: Sequence[Point], num_old: int, position: NDArray[np.int64], num_rows: int
    ) -> Column:
        kind = self._kinds[name]
        there = self._base.kinds.get(name) == kind  # of a column that was declared since, the old rows have nothing
        old = self._base.columns[name] if there else make_column(kind, name, [{}] * num_old)
        new = make_column(kind, name, [point.payload for point in points])
        return old.joined(new, num_old).taken(position, num_rows)  # type: ignore[arg-type]


class ExactReader:
    """A state, its vectors mapped into memory. Threads may search at the same time."""

    def __init__(self, states: States, token: str) -> None:
        self._held = states.hold(token)
        try:
            self._arrays = _load_arrays(states, self._held.path)
        except BaseException:
            self._held.close()
            raise

    def search(self, queries: Sequence[VectorQuery]) -> list[list[Hit]]:
        """The best points for each query; all dense queries with the same filter are one multiplication."""
        results: list[list[Hit]] = [[] for _ in queries]
        groups: dict[Filter | None, list[int]] = {}
        for place, query in enumerate(queries):
            groups.setdefault(query.filter, []).append(place)
        for filter, places in groups.items():
            mask = None if filter is None else self._mask(filter)
            dense = [place for place in places if isinstance(queries[place].vector, np.ndarray)]
            self._search_dense(queries, dense, mask, results)
            for place in places:
                vector = queries[place].vector
                if not isinstance(vector, np.ndarray):
                    scores = self._arrays.words.scores(vector, len(self._arrays.ids))
                    rows = np.flatnonzero(scores > 0 if mask is None else (scores > 0) & mask)
                    results[place] = self._hits(scores[rows], rows, queries[place].limit)
        return results

    def count(self, filter: Filter | None = None) -> int:
        """How many points pass."""
        return len(self._arrays.ids) if filter is None else int(np.count_nonzero(self._mask(filter)))

    def close(self) -> None:
        """Let go of the state."""
        self._held.close()

    def _mask(self, filter: Filter) -> Mask:
        return filter_mask(filter, self._arrays.columns, len(self._arrays.ids))

    def _search_dense(
        self, queries: Sequence[VectorQuery], places: Sequence[int], mask: Mask | None, results: list[list[Hit]]
    ) -> None:
        rows = np.arange(len(self._arrays.ids)) if mask is None else np.flatnonzero(mask)
        if not len(rows) or not places:
            return
        vectors = self._arrays.dense if mask is None else self._arrays.dense[rows]
        step = max(1, _BLOCK_SCORES // len(rows))
        for start in range(0, len(places), step):
            block = places[start : start + step]
            wanted = _unit(np.asarray([queries[place].vector for place in block], dtype=np.float32))
            for place, scores in zip(block, wanted @ vectors.T, strict=True):
                results[place] = self._hits(scores, rows, queries[place].limit)

    def _hits(self, scores: NDArray[np.float32], rows: NDArray[np.int64], limit: int) -> list[Hit]:
        """The best `limit` of the rows; rows are in the order of the ids, which breaks ties."""
        if len(rows) > limit:
            least = np.partition(scores, len(rows) - limit)[len(rows) - limit]
            near = np.flatnonzero(scores >= least - _TIE)
            scores, rows = scores[near], rows[near]
        order = np.lexsort((rows, -np.round(scores / _TIE)))[:limit]
        return [Hit(id=_text(self._arrays.ids[rows[place]].tobytes()), score=float(scores[place])) for place in order]


def _load(states: States, token: str) -> _Arrays:
    held = states.hold(token)
    try:
        return _load_arrays(states, held.path)  # on Linux a mapped file outlives its name
    finally:
        held.close()


def _load_arrays(states: States, folder: Path) -> _Arrays:
    try:
        kinds = json.loads((folder / "columns.json").read_text(encoding="utf-8"))
        return _Arrays(
            ids=np.load(folder / "ids.npy", allow_pickle=False),
            dense=_load_mapped(folder / "dense.npy"),
            words=load_postings(folder),
            kinds=kinds,
            columns={
                name: load_column(kind, folder, f"column{number}") for number, (name, kind) in enumerate(kinds.items())
            },
        )
    except (OSError, ValueError) as error:
        raise states.damaged(folder, str(error)) from error


def _load_mapped(path: Path) -> Vectors:
    vectors: Vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    return vectors.view(np.ndarray)  # the subclass for files makes every slice slower


def _empty(spec: Spec, kinds: Mapping[str, ColumnType]) -> _Arrays:
    return _Arrays(
        ids=_ids_array([]),
        dense=np.zeros((0, spec.dimension), dtype=np.float32),
        words=make_postings([]),
        kinds=kinds,
        columns={name: make_column(kind, name, []) for name, kind in kinds.items()},
    )


def _ids_array(keys: Sequence[bytes]) -> NDArray[np.void]:
    return np.frombuffer(b"".join(keys), dtype="V16")


def _key(id: str) -> bytes:
    return uuid.UUID(id).bytes


def _text(key: bytes) -> str:
    digits = key.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _unit(vectors: Vectors) -> Vectors:
    """Scaled to length 1; a vector of zeros stays one, and so is like nothing."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = (vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
    return unit
