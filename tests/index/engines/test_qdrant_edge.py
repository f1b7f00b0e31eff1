from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from engine_points import DIMENSION, make_points, nearest, query_vector

from genai.config.index import HnswConfig, QdrantEdgeConfig
from genai.errors import GenaiError, MissingExtraError
from genai.index.engines import open_engine, qdrant_edge
from genai.index.engines.qdrant_edge import NEVER_WRITTEN_AGAIN
from genai.index.filters import AnyOf, Compare, Filter
from genai.index.interfaces import Engine, Point, SparseVector, Spec, VectorQuery, Vectors
from genai.storage import atomic

pytestmark = pytest.mark.integration

SMALL = QdrantEdgeConfig(exact_below=100)
SPEC = Spec(index="faq", generation="g1", dimension=DIMENSION, columns={"year": "integer"})
"""One column: each takes a dozen files, all of which are brought to the disk."""


def content_of(state: Path) -> dict[str, str]:
    files = sorted(path for path in state.rglob("*") if path.is_file())
    return {path.relative_to(state).as_posix(): _hash_of(path) for path in files}


def _hash_of(path: Path) -> str:
    """Of what was written of a file: most of many is a hole."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        end, size = 0, path.stat().st_size
        while end < size:
            try:
                start = os.lseek(stream.fileno(), end, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(stream.fileno(), start, os.SEEK_HOLE)
            data = os.pread(stream.fileno(), end - start, start)
            if data.strip(b"\0"):
                digest.update(f"{start + len(data) - len(data.lstrip(bytes(1)))}".encode() + data.strip(b"\0"))
    return f"{size} {digest.hexdigest()}"


def test_a_state_stays_as_it_is_while_others_are_made_from_it(tmp_path: Path) -> None:
    engine = open_engine(SMALL, tmp_path, index="faq")
    writer = engine.writer(SPEC, None)
    writer.upsert(make_points(range(600)))
    token = first = writer.publish()
    before = content_of(tmp_path / "g1" / first)
    assert {Path(name).name for name in before} >= NEVER_WRITTEN_AGAIN
    reader = engine.reader(SPEC, first)
    (expected,) = reader.search([VectorQuery(vector=query_vector(1), limit=20)])
    for start in range(0, 180, 60):  # by the end the graph was built anew
        writer.delete([point.id for point in make_points(range(start, start + 30))])
        writer.upsert(make_points(range(start + 30, start + 60), seed=1))
        writer.upsert(make_points(range(600 + start, 660 + start)))
        token = writer.publish()
        opened = engine.reader(SPEC, token)
        assert opened.count() == 600 + (start // 60 + 1) * 30
        opened.close()
        assert content_of(tmp_path / "g1" / first) == before
    assert reader.search([VectorQuery(vector=query_vector(1), limit=20)]) == [expected]
    reader.close()
    assert content_of(tmp_path / "g1" / first) == before
    engine.sweep({"g1": token})
    assert len(list((tmp_path / "g1").glob("0*"))) == 1


def test_little_is_copied_for_a_small_change(tmp_path: Path) -> None:
    engine = open_engine(SMALL, tmp_path, index="faq")
    writer = engine.writer(SPEC, None)
    writer.upsert(make_points(range(600)))
    first = writer.publish()
    writer.upsert(make_points([7], seed=1))
    second = writer.publish()
    linked = [path for path in (tmp_path / "g1" / second).rglob("*") if path.is_file() and path.stat().st_nlink > 1]
    assert {path.name for path in linked} == NEVER_WRITTEN_AGAIN
    assert all(path.stat().st_nlink == 2 for path in linked)
    assert first != second


def test_the_graph_is_built_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qdrant_edge, "_OWN_PROCESS_POINTS", 10)
    engine, points = open_engine(SMALL, tmp_path, index="faq"), make_points(range(500))
    writer = engine.writer(SPEC, None)
    writer.upsert(points)
    token = writer.publish()
    assert any((tmp_path / "g1" / token).rglob("links_compressed.bin"))
    reader = engine.reader(SPEC, token)
    (hits,) = reader.search([VectorQuery(vector=query_vector(1), limit=10)])
    assert [hit.id for hit in hits] == nearest(points, query_vector(1), 10)
    reader.close()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    writer.upsert(make_points(range(500, 700)))
    with pytest.raises(GenaiError, match="the graph could not be built: it ended with 1"):
        writer.publish()
    writer.close()
    again = engine.writer(SPEC, token)
    assert len(list(again.ids())) == 500


def test_a_changed_threshold_is_kept_to_without_building_anew(tmp_path: Path) -> None:
    points = make_points(range(800))
    engine = open_engine(QdrantEdgeConfig(exact_below=50, hnsw=HnswConfig(ef=1, m=2)), tmp_path, index="faq")
    writer = engine.writer(SPEC, None)
    writer.upsert(points)
    token = writer.publish()
    recent = Compare(column="year", operator=">=", value=2017)
    found = {}
    for threshold in (50, 5000):
        config = QdrantEdgeConfig(exact_below=threshold, hnsw=HnswConfig(ef=1, m=2))
        reader = open_engine(config, tmp_path, index="faq").reader(SPEC, token)
        assert reader.count(recent) > 200
        answers = reader.search([VectorQuery(vector=query_vector(n), limit=3, filter=recent) for n in range(20)])
        found[threshold] = [[hit.id for hit in hits] for hits in answers]
        reader.close()
    expected = [nearest(points, query_vector(number), 3, recent) for number in range(20)]
    assert found[5000] == expected != found[50]


def test_a_builder_whose_parent_is_gone_does_nothing(tmp_path: Path) -> None:
    from genai.index.engines.edge_optimize import main

    main(str(tmp_path / "nothing"), os.getppid() + 1)


def test_a_disk_that_is_nearly_full_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_engine(SMALL, tmp_path, index="faq")
    writer = engine.writer(SPEC, None)
    writer.upsert(make_points(range(10)))
    token = writer.publish()
    monkeypatch.setattr(atomic, "free_bytes", lambda path: 1 << 20)
    with pytest.raises(GenaiError, match=r"the disk is nearly full: 1048576 bytes are free.*make room"):
        writer.upsert(make_points(range(10, 20)))
    writer.close()
    reader = engine.reader(SPEC, token)
    assert reader.count() == 10
    reader.close()


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"needs the package 'qdrant_edge'.*\[index\]"):
        open_engine(SMALL, tmp_path, index="faq")


SELECTIVITIES = (0.5, 0.1, 0.01, 0.001)
CLUSTERED = Spec(
    index="faq",
    generation="g1",
    dimension=64,
    columns={"rank": "float", "group": "keyword", "cluster": "integer", "far": "float"},
)


def clustered_points(num_points: int, clusters: int) -> tuple[list[Point], Vectors, Vectors]:
    """A mixture of Gaussians; `rank` and `group` are drawn at random, `cluster` and `far` (the distance from the first
    query, as a share of all) have to do with where a point lies.
    """
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(clusters, CLUSTERED.dimension)) * 0.5
    cluster = rng.integers(clusters, size=num_points)
    vectors = (centres[cluster] + rng.normal(size=(num_points, CLUSTERED.dimension)) * 0.3).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = centres[rng.integers(clusters, size=50)] + rng.normal(size=(50, CLUSTERED.dimension)) * 0.3
    queries = (asked / np.linalg.norm(asked, axis=1, keepdims=True)).astype(np.float32)
    far = np.argsort(np.argsort(-(vectors @ queries[0]))) / num_points
    rank, nothing = rng.random(num_points), SparseVector(indices=np.zeros(0, np.uint32), values=np.zeros(0, np.float32))
    base = make_points(range(1))[0]
    points = [
        Point(
            id=f"{number:08x}{base.id[8:]}",
            dense=vectors[number],
            sparse=nothing,
            payload={
                "rank": float(rank[number]),
                "group": f"g{int(rank[number] * 10)}",
                "cluster": int(cluster[number]),
                "far": float(far[number]),
            },
        )
        for number in range(num_points)
    ]
    return points, vectors, queries


def filters_of(clusters: int) -> dict[str, tuple[Filter, str, float, float]]:
    """Name -> filter, and the same as a range of a column."""
    found: dict[str, tuple[Filter, str, float, float]] = {}
    for share in SELECTIVITIES:
        found[f"random {share:.1%}"] = (Compare(column="rank", operator="<", value=share), "rank", 0, share)
        found[f"near {share:.1%}"] = (Compare(column="far", operator="<", value=share), "far", 0, share)
        found[f"far {share:.1%}"] = (Compare(column="far", operator=">=", value=1 - share), "far", 1 - share, 2)
        some = max(1, round(share * clusters))
        groups = tuple(Compare(column="cluster", operator="=", value=number) for number in range(some))
        found[f"clusters {some}"] = (AnyOf(filters=groups), "cluster", 0, some)
    found["group"] = (Compare(column="group", operator="=", value="g3"), "rank", 0.3, 0.4)
    return found


def recalls(
    engine: Engine, points: Sequence[Point], vectors: Vectors, queries: Vectors, clusters: int
) -> dict[str, float]:
    writer = engine.writer(CLUSTERED, None)
    writer.upsert(points)
    reader = engine.reader(CLUSTERED, writer.publish())
    result = {}
    scores = queries @ vectors.T
    payload = {name: np.asarray([point.payload[name] for point in points]) for name in ("rank", "far", "cluster")}
    for name, (filter, column, low, high) in {"all": (None, "rank", 0, 2), **filters_of(clusters)}.items():
        rows = np.flatnonzero((payload[column] >= low) & (payload[column] < high))
        assert reader.count(filter) == len(rows)
        answers = reader.search([VectorQuery(vector=query, limit=10, filter=filter) for query in queries])
        found = 0
        for number, hits in enumerate(answers):
            best = rows[np.argsort(-scores[number][rows])[:10]]
            found += len({hit.id for hit in hits} & {points[row].id for row in best}) / max(1, len(best))
        result[name] = found / len(queries)
    reader.close()
    return result


@pytest.mark.parametrize("num_points", [4000, pytest.param(20_000, marks=pytest.mark.slow)], ids=["4k", "20k"])
def test_what_passes_a_filter_is_found(tmp_path: Path, num_points: int) -> None:
    """With a threshold so low that the graph answers even where few pass."""
    clusters = 50
    points, vectors, queries = clustered_points(num_points, clusters)
    config = QdrantEdgeConfig(exact_below=num_points // 40, hnsw=HnswConfig(ef=64))
    result = recalls(open_engine(config, tmp_path, index="faq"), points, vectors, queries, clusters)
    assert {name: share for name, share in result.items() if share < 0.95} == {}
    assert result["all"] >= 0.99
