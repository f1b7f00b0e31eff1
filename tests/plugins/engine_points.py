"""Random points for the tests of vector engines, and what an engine must find among them, computed plainly."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from genai.config.index import ColumnType
from genai.index.filters import Filter, passes
from genai.index.interfaces import Point, SparseVector, Spec, Vectors

DIMENSION = 24
COLUMNS: Mapping[str, ColumnType] = {
    "topic": "keyword",
    "tags": "keyword",
    "year": "integer",
    "price": "float",
    "draft": "boolean",
    "seen": "datetime",
    "Größe in m²": "float",
}
SPEC = Spec(index="faq", generation="g1", dimension=DIMENSION, columns=COLUMNS)
WORDS = ("floors", "walls", "under floor", "a \"b\" 'c'", "åäö 日本 🙂", "")


def point_id(number: int) -> str:
    """The id of the point that the tests call by this number; their order is not that of the numbers."""
    return str(uuid.UUID(int=(number * 0x9E3779B97F4A7C15F39CC0605CEDC835 + 1) % (1 << 128)))


def make_points(numbers: Sequence[int], *, seed: int = 0, dimension: int = DIMENSION, **payload: Any) -> list[Point]:
    """A point a number; the same number and seed give the same one. `payload` is added to each."""
    return [_make_point(number, seed, dimension, payload) for number in numbers]


def _make_point(number: int, seed: int, dimension: int, payload: Mapping[str, Any]) -> Point:
    rng = np.random.default_rng([seed, number])
    terms = np.unique(rng.zipf(1.3, size=12) % 500).astype(np.uint32) + np.uint32(1 << 31)
    some: dict[str, Any] = {
        "topic": str(rng.choice(WORDS)),
        "tags": [str(word) for word in rng.choice(WORDS, size=rng.integers(0, 4), replace=False)],
        "year": int(rng.integers(2015, 2026)),
        "price": float(rng.choice([-1.5, 0.0, 0.1, 2.5, 1e-9, 1e6])),
        "draft": bool(rng.integers(2)),
        "seen": float(rng.integers(1_700_000_000, 1_700_000_010)) + 0.5,
        "Größe in m²": float(rng.integers(4)),
    }
    there = {column: value for column, value in some.items() if rng.random() < 0.8}
    return Point(
        id=point_id(number),
        dense=rng.normal(size=dimension).astype(np.float32),
        sparse=SparseVector(indices=terms, values=rng.uniform(0.2, 2.0, len(terms)).astype(np.float32)),
        payload={**there, **payload},
    )


def query_vector(seed: int, dimension: int = DIMENSION) -> Vectors:
    """Looks for nothing in particular."""
    return np.random.default_rng([99, seed]).normal(size=dimension).astype(np.float32)


def nearest(points: Sequence[Point], query: Vectors, limit: int, filter: Filter | None = None) -> list[str]:
    """Ids by cosine, computed in double precision; ties by id."""
    scores = {point.id: cosine(point.dense, query) for point in points if _passes(point, filter)}
    return ranked(scores, limit)


def cosine(left: Vectors, right: Vectors) -> float:
    """In double precision; 0 where one is zero."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length else 0.0


def bm25(points: Sequence[Point], query: SparseVector, filter: Filter | None = None) -> dict[str, float]:
    """Id -> score of all points with a word of the query, by the formula in `SparseVector`."""
    counts = dict(zip(query.indices.tolist(), query.values.tolist(), strict=True))
    held = {point.id: dict(zip(point.sparse.indices.tolist(), point.sparse.values, strict=True)) for point in points}
    scores: dict[str, float] = {}
    for point in points:
        for term, count in counts.items():
            if term in held[point.id] and _passes(point, filter):
                frequency = sum(term in terms for terms in held.values())
                inverse = math.log(1 + (len(points) - frequency + 0.5) / (frequency + 0.5))
                scores[point.id] = scores.get(point.id, 0.0) + count * inverse * float(held[point.id][term])
    return scores


def ranked(scores: Mapping[str, float], limit: int) -> list[str]:
    """The best ids; ties by id."""
    return sorted(scores, key=lambda id: (-scores[id], id))[:limit]


def _passes(point: Point, filter: Filter | None) -> bool:
    return filter is None or passes(filter, point.payload)
