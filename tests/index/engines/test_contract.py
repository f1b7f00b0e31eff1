"""What every engine must do, held against plain computations; real files, real processes, nothing replaced."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_points import (
    COLUMNS,
    DIMENSION,
    SPEC,
    WORDS,
    bm25,
    cosine,
    make_points,
    nearest,
    point_id,
    query_vector,
    ranked,
)

from genai.config.index import EngineConfig, ExactConfig, LanceDbConfig, QdrantConfig, QdrantEdgeConfig
from genai.errors import DataError
from genai.index.engines import open_engine
from genai.index.filters import All, AnyOf, Compare, Filter, Not, passes
from genai.index.interfaces import Engine, Hit, Point, SparseVector, Spec, VectorQuery

pytestmark = pytest.mark.integration

SERVER = os.environ.get("QDRANT_URL")
CONFIGS: dict[str, EngineConfig] = {
    "exact": ExactConfig(),
    "qdrant_edge": QdrantEdgeConfig(),
    "qdrant": QdrantConfig(url=":memory:"),
    "lancedb": LanceDbConfig(),
    **({"qdrant_server": QdrantConfig(url=SERVER)} if SERVER else {}),
}
SNAPSHOTS = ("exact", "qdrant_edge", "lancedb")
FILES = ("exact", "qdrant_edge")


@pytest.fixture(params=CONFIGS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(kind: str, tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(CONFIGS[kind], tmp_path / "engine", index="faq")
    yield engine
    engine.sweep({})


def published(engine: Engine, points: Sequence[Point], spec: Spec = SPEC, token: str | None = None) -> str:
    writer = engine.writer(spec, token)
    writer.upsert(points)
    token = writer.publish()
    writer.close()
    return token


def found(engine: Engine, token: str, *queries: VectorQuery, spec: Spec = SPEC) -> list[list[Hit]]:
    reader = engine.reader(spec, token)
    try:
        return reader.search(queries)
    finally:
        reader.close()


def ids_of(hits: Sequence[Hit]) -> list[str]:
    return [hit.id for hit in hits]


def words(*terms: int) -> SparseVector:
    indices = np.asarray(sorted(terms), dtype=np.uint32) + np.uint32(1 << 31)
    return SparseVector(indices=indices, values=np.ones(len(terms), dtype=np.float32))


def test_an_empty_index_finds_nothing(engine: Engine) -> None:
    writer = engine.writer(SPEC, None)
    assert list(writer.ids()) == []
    token = writer.publish()
    writer.close()
    reader = engine.reader(SPEC, token)
    everything = Not(filter=Compare(column="year", operator="=", value=1))
    queries = [
        VectorQuery(vector=query_vector(0), limit=3),
        VectorQuery(vector=words(1), limit=3),
        VectorQuery(vector=query_vector(0), limit=3, filter=everything),
    ]
    assert reader.search(queries) == [[], [], []]
    assert reader.search([]) == []
    assert reader.count() == reader.count(everything) == 0
    reader.close()


def test_vectors_are_found_by_their_cosine(engine: Engine) -> None:
    points = make_points(range(300))
    token = published(engine, points)
    queries = [query_vector(seed) * (seed + 1) for seed in range(8)]
    for query, hits in zip(
        queries, found(engine, token, *(VectorQuery(vector=q, limit=20) for q in queries)), strict=True
    ):
        assert ids_of(hits) == nearest(points, query, 20)
        by_id = {point.id: point for point in points}
        assert [hit.score for hit in hits] == pytest.approx(
            [cosine(by_id[hit.id].dense, query) for hit in hits], abs=1e-3
        )


def test_words_are_found_by_bm25(engine: Engine) -> None:
    points = make_points(range(300))
    token = published(engine, points)
    queries = [words(1, 2, 3), words(4), words(10, 20, 30, 40), words(499, 77), words(600)]
    queries.append(SparseVector(indices=queries[0].indices, values=np.asarray([3, 1, 2], dtype=np.float32)))
    answers = found(engine, token, *(VectorQuery(vector=query, limit=15) for query in queries))
    for query, hits in zip(queries, answers, strict=True):
        expected = bm25(points, query)
        assert ids_of(hits) == ranked(expected, 15)
        assert [hit.score for hit in hits] == pytest.approx([expected[hit.id] for hit in hits], rel=1e-4)


def test_a_point_may_have_no_words_and_a_query_none_that_is_known(engine: Engine) -> None:
    none = SparseVector(indices=np.zeros(0, np.uint32), values=np.zeros(0, np.float32))
    points = [replace(point, sparse=none) for point in make_points(range(3))]
    token = published(engine, [*points, *make_points(range(10, 20))])
    queries = [VectorQuery(vector=vector, limit=20) for vector in (none, words(70_000), words(1), query_vector(0))]
    empty, unknown, sparse, dense = found(engine, token, *queries)
    assert empty == unknown == []
    assert not {point.id for point in points} & set(ids_of(sparse))
    assert len(dense) == 13


def test_a_point_with_the_same_id_is_replaced(engine: Engine) -> None:
    old, new = make_points(range(50)), make_points([7], seed=1)
    token = published(engine, new, token=published(engine, old))
    points = [*old[:7], *new, *old[8:]]
    reader = engine.reader(SPEC, token)
    (hits,) = reader.search([VectorQuery(vector=new[0].dense, limit=50)])
    assert ids_of(hits) == nearest(points, new[0].dense, 50)
    assert reader.count() == 50
    for column, value in new[0].payload.items():
        if not isinstance(value, list):
            passing = Compare(column=column, operator="=", value=value)
            assert reader.count(passing) == sum(passes(passing, point.payload) for point in points), column
    reader.close()


def test_points_go_and_unknown_ids_are_no_error(engine: Engine) -> None:
    points = make_points(range(60))
    token = published(engine, points)
    writer = engine.writer(SPEC, token)
    writer.delete([point_id(number) for number in (*range(0, 60, 2), 1000)])
    writer.delete([])
    writer.upsert(make_points([2, 61]))
    writer.delete([point_id(61)])
    assert sorted(writer.ids()) == sorted(point_id(number) for number in (*range(1, 60, 2), 2))
    token = writer.publish()
    assert sorted(writer.ids()) == sorted(point_id(number) for number in (*range(1, 60, 2), 2))
    writer.close()
    left = [*points[1::2], points[2]]
    reader = engine.reader(SPEC, token)
    assert reader.count() == 31
    dense, sparse = reader.search(
        [VectorQuery(vector=query_vector(1), limit=100), VectorQuery(vector=words(1, 2), limit=100)]
    )
    assert ids_of(dense) == nearest(left, query_vector(1), 100)
    assert set(ids_of(sparse)) == set(bm25(left, words(1, 2)))
    reader.close()


@pytest.mark.parametrize("kind", SNAPSHOTS)
def test_a_reader_keeps_to_the_state_that_it_opened(engine: Engine) -> None:
    old = make_points(range(40))
    before = published(engine, old)
    reader = engine.reader(SPEC, before)
    writer = engine.writer(SPEC, before)
    writer.upsert(make_points(range(40, 80)))
    writer.delete([old[0].id])
    assert reader.count() == 40
    after = writer.publish()
    writer.close()
    assert after != before
    newer = engine.reader(SPEC, after)
    assert (reader.count(), newer.count()) == (40, 79)
    query = VectorQuery(vector=old[0].dense, limit=1)
    assert reader.search([query])[0][0].id == old[0].id != newer.search([query])[0][0].id
    again = engine.reader(SPEC, before)
    assert again.count() == 40
    for open_reader in (reader, newer, again):
        open_reader.close()


@pytest.mark.parametrize("kind", SNAPSHOTS)
def test_a_writer_goes_on_after_publishing_and_drops_what_it_did_not_publish(engine: Engine) -> None:
    writer = engine.writer(SPEC, None)
    writer.upsert(make_points(range(10)))
    first = writer.publish()
    writer.upsert(make_points(range(10, 20)))
    second = writer.publish()
    writer.upsert(make_points(range(20, 30)))
    writer.close()
    for token, number in ((first, 10), (second, 20)):
        reader = engine.reader(SPEC, token)
        assert reader.count() == number
        reader.close()
    going_on = engine.writer(SPEC, second)
    assert len(list(going_on.ids())) == 20
    going_on.close()


@pytest.mark.parametrize("kind", SNAPSHOTS)
def test_another_engine_object_finds_what_was_published(kind: str, tmp_path: Path) -> None:
    points = make_points(range(30))
    token = published(open_engine(CONFIGS[kind], tmp_path, index="faq"), points)
    again = open_engine(CONFIGS[kind], tmp_path, index="faq")
    assert ids_of(found(again, token, VectorQuery(vector=query_vector(3), limit=5))[0]) == nearest(
        points, query_vector(3), 5
    )


def test_a_generation_begins_anew_beside_the_old_state(engine: Engine) -> None:
    before = published(engine, make_points(range(20)))
    after = published(engine, make_points(range(100, 105)))
    assert after != before
    reader = engine.reader(SPEC, after)
    assert reader.count() == 5
    reader.close()


def test_generations_do_not_meet(engine: Engine) -> None:
    second = replace(SPEC, generation="g2", dimension=8)
    one = published(engine, make_points(range(20)))
    two = published(engine, make_points(range(5), dimension=8), second)
    engine.sweep({"g1": one, "g2": two})
    for spec, token, number in ((SPEC, one, 20), (second, two, 5)):
        reader = engine.reader(spec, token)
        assert reader.count() == number
        reader.close()


FILTERS: list[Filter] = [
    *(Compare(column="topic", operator="=", value=word) for word in WORDS),
    *(Compare(column="tags", operator="!=", value=word) for word in WORDS),
    Compare(column="tags", operator="in", value=("floors", WORDS[3], WORDS[4])),
    Compare(column="tags", operator="in", value=()),
    *(Compare(column="year", operator=operator, value=2020) for operator in ("=", "!=", "<", "<=", ">", ">=")),
    Compare(column="year", operator="in", value=(2015, 2025, -3)),
    *(Compare(column="price", operator=operator, value=0.1) for operator in ("=", "!=", "<", "<=", ">", ">=")),
    Compare(column="price", operator="in", value=(1e-9, 1e6)),
    *(Compare(column="draft", operator=operator, value=True) for operator in ("=", "!=")),
    Compare(column="draft", operator="in", value=(False,)),
    *(Compare(column="seen", operator=operator, value=1_700_000_005.5) for operator in ("=", "!=", "<", ">=")),
    *(Compare(column=column, operator="exists") for column in COLUMNS),
    Compare(column="Größe in m²", operator=">", value=1.0),
    All(filters=()),
    AnyOf(filters=()),
]


def test_every_filter_lets_pass_what_it_should(engine: Engine) -> None:
    points = make_points(range(200))
    reader = engine.reader(SPEC, published(engine, points))
    rng = random.Random(3)
    for filter in [*FILTERS, *(_random_filter(rng, 3) for _ in range(60))]:
        expected = {point.id for point in points if passes(filter, point.payload)}
        hits = reader.search([VectorQuery(vector=query_vector(5), limit=200, filter=filter)])[0]
        assert (reader.count(filter), set(ids_of(hits))) == (len(expected), expected), filter
    reader.close()


def _random_filter(rng: random.Random, depth: int) -> Filter:
    shape = rng.random() if depth else 0.0
    if shape < 0.4:
        return rng.choice(FILTERS)
    if shape < 0.6:
        return Not(filter=_random_filter(rng, depth - 1))
    parts = tuple(_random_filter(rng, depth - 1) for _ in range(rng.randint(1, 3)))
    return All(filters=parts) if shape < 0.8 else AnyOf(filters=parts)


def test_filters_hold_for_words_too(engine: Engine) -> None:
    points = make_points(range(200))
    filters = [FILTERS[0], All(filters=(FILTERS[16], Not(filter=FILTERS[0]))), None, AnyOf(filters=())]
    query = words(1, 2, 3)
    answers = found(
        engine, published(engine, points), *(VectorQuery(vector=query, limit=30, filter=f) for f in filters)
    )
    for filter, hits in zip(filters, answers, strict=True):
        assert ids_of(hits) == ranked(bm25(points, query, filter), 30) if filter else True
        scores = bm25(points, query, None)
        assert [hit.score for hit in hits] == pytest.approx([scores[hit.id] for hit in hits], rel=1e-3)


def test_a_tenant_sees_its_own_points(engine: Engine) -> None:
    spec = replace(SPEC, has_tenants=True)
    points = [*make_points(range(30), _tenant="åker & co"), *make_points(range(30, 40), _tenant="b")]
    reader = engine.reader(spec, published(engine, points, spec))
    for tenant, number in (("åker & co", 30), ("b", 10), ("c", 0)):
        filter = Compare(column="_tenant", operator="=", value=tenant)
        assert reader.count(filter) == number
        hits = reader.search(
            [
                VectorQuery(vector=query_vector(1), limit=40, filter=filter),
                VectorQuery(vector=words(1, 2, 3, 4), limit=40, filter=filter),
            ]
        )
        assert set(ids_of(hits[0])) == {point.id for point in points if point.payload["_tenant"] == tenant}
        assert set(ids_of(hits[1])) <= set(ids_of(hits[0]))
    reader.close()


def test_ties_are_broken_by_id_and_a_limit_may_be_too_large(engine: Engine) -> None:
    twins = [replace(point, dense=query_vector(1), sparse=words(5)) for point in make_points(range(9))]
    token = published(engine, [*twins, *make_points(range(20, 25))])
    dense, sparse = found(
        engine, token, VectorQuery(vector=query_vector(1), limit=50), VectorQuery(vector=words(5), limit=50)
    )
    assert ids_of(dense)[:9] == sorted(point.id for point in twins)
    assert len(dense) == 14
    assert set(ids_of(sparse)) >= {point.id for point in twins}
    assert ids_of(sparse) == ranked({hit.id: round(hit.score, 4) for hit in sparse}, 50)


def test_a_column_may_come_change_its_type_and_go(engine: Engine) -> None:
    narrow = replace(SPEC, columns={"topic": "keyword", "year": "keyword", "gone": "integer"})
    points = make_points(range(30), gone=1)
    texts = [replace(point, payload={**point.payload, "year": "x"}) for point in points]
    token = published(engine, texts, narrow)
    token = published(engine, points[:10], SPEC, token)
    reader = engine.reader(SPEC, token)
    assert reader.count() == 30
    assert reader.count(FILTERS[0]) == sum(passes(FILTERS[0], point.payload) for point in points)
    new = Compare(column="year", operator=">=", value=2018)
    assert reader.count(new) == sum(passes(new, point.payload) for point in points[:10])
    reader.close()


def test_a_zero_vector_is_like_nothing(engine: Engine) -> None:
    points = [replace(point, dense=np.zeros(DIMENSION, np.float32)) for point in make_points(range(2))]
    token = published(engine, [*points, *make_points(range(5, 8))])
    (hits,) = found(engine, token, VectorQuery(vector=query_vector(1), limit=10))
    assert all(np.isfinite(hit.score) for hit in hits)
    (hits,) = found(engine, token, VectorQuery(vector=np.zeros(DIMENSION, np.float32), limit=10))
    assert all(hit.score == 0 for hit in hits)


def test_a_state_that_is_not_there_is_an_error(engine: Engine, kind: str) -> None:
    token = published(engine, make_points(range(3)))
    wrong = "000009-00000000" if kind in FILES else token.replace("g1", "g3")
    for attempt in (engine.reader, engine.writer):
        with pytest.raises(DataError, match=r"genai index rebuild"):
            attempt(SPEC, wrong)


@pytest.mark.parametrize("kind", FILES)
def test_a_state_without_changes_is_not_written_again(engine: Engine) -> None:
    token = published(engine, make_points(range(5)))
    assert published(engine, [], token=token) == token


@pytest.mark.parametrize("kind", FILES)
def test_sweeping_spares_what_is_open(engine: Engine, tmp_path: Path) -> None:
    tokens = [published(engine, make_points(range(5)))]
    for number in range(10, 13):
        tokens.append(published(engine, make_points([number]), token=tokens[-1]))
    reader = engine.reader(SPEC, tokens[1])
    states = tmp_path / "engine" / "g1"
    engine.sweep({"g1": tokens[3]})
    assert sorted(path.name for path in states.iterdir() if path.is_dir()) == [tokens[1], tokens[3]]
    assert reader.count() == 6
    assert len(reader.search([VectorQuery(vector=query_vector(0), limit=9)])[0]) == 6
    reader.close()
    reader.close()
    engine.sweep({"g1": tokens[3]})
    assert [path.name for path in states.iterdir() if path.is_dir()] == [tokens[3]]
    with pytest.raises(DataError, match="not there"):
        engine.reader(SPEC, tokens[1])
    engine.sweep({})
    assert not states.exists()


@pytest.mark.parametrize("kind", FILES)
def test_a_damaged_state_is_named_and_not_opened(engine: Engine, tmp_path: Path) -> None:
    token = published(engine, make_points(range(5)))
    state = tmp_path / "engine" / "g1" / token
    largest = max((path for path in state.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = largest.read_bytes()
    largest.write_bytes(content[:-7])
    with pytest.raises(DataError, match=r"is damaged: .* bytes instead of .*genai index rebuild faq"):
        engine.reader(SPEC, token)
    largest.unlink()
    with pytest.raises(DataError, match=r"is damaged: .* is missing"):
        engine.writer(SPEC, token)
    engine.sweep({"g1": None})
    assert not state.exists()


PROCESS = """
import sys
from pathlib import Path
from engine_points import SPEC, make_points, query_vector
from genai.config.index import ExactConfig, LanceDbConfig, QdrantEdgeConfig
from genai.index.engines import open_engine
from genai.index.interfaces import VectorQuery
config = {"exact": ExactConfig, "lancedb": LanceDbConfig, "qdrant_edge": QdrantEdgeConfig}[sys.argv[1]]()
engine = open_engine(config, Path(sys.argv[2]), index="faq")
"""
READING = """
reader = engine.reader(SPEC, sys.argv[3])
print("open", flush=True)
for line in sys.stdin:
    hits = reader.search([VectorQuery(vector=query_vector(0), limit=3)])[0]
    print(reader.count(), *(hit.id for hit in hits), flush=True)
"""
WRITING = """
token, number = sys.argv[3], 100
while True:
    writer = engine.writer(SPEC, token)
    for _ in range(3):
        writer.upsert(make_points(range(number, number + 50)))
        writer.delete([point.id for point in make_points(range(number - 60, number - 50))])
        number += 50
    token = writer.publish()
    writer.close()
    print(token, number, flush=True)
"""


def start(code: str, *arguments: str | Path) -> subprocess.Popen[str]:
    plugins = Path(__file__).parents[2] / "plugins"
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS + code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(plugins)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("kind", SNAPSHOTS)
def test_other_processes_search_while_this_one_writes(engine: Engine, kind: str, tmp_path: Path) -> None:
    points = make_points(range(100))
    token = first = published(engine, points)
    readers = [start(READING, kind, tmp_path / "engine", first) for _ in range(2)]
    try:
        assert [_line(reader) for reader in readers] == ["open", "open"]
        expected = " ".join(["100", *nearest(points, query_vector(0), 3)])
        for number in range(100, 400, 100):
            token = published(engine, make_points(range(number, number + 100)), token=token)
            engine.sweep({"g1": token})
            for reader in readers:
                assert reader.stdin is not None
                print("go", file=reader.stdin, flush=True)
                assert _line(reader) == expected
        reader = engine.reader(SPEC, token)
        assert reader.count() == 400
        reader.close()
    finally:
        for process in readers:
            process.communicate()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.slow
@pytest.mark.parametrize("kind", SNAPSHOTS)
def test_a_writer_killed_at_any_moment_leaves_what_was_published(kind: str, tmp_path: Path) -> None:
    make: Callable[[], Engine] = lambda: open_engine(CONFIGS[kind], tmp_path / "engine", index="faq")  # noqa: E731
    token, rng = published(make(), make_points(range(100))), random.Random(1)
    for _ in range(8):
        process = start(WRITING, kind, tmp_path / "engine", token)
        expected: dict[str, Any] = {}
        for _ in range(rng.randint(0, 2)):
            line = _line(process)
            token, expected["until"] = line.split()[0], int(line.split()[1])
        time.sleep(rng.uniform(0.0, 0.4) + (0.0 if expected else 1.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        engine = make()
        reader = engine.reader(SPEC, token)
        writer = engine.writer(SPEC, token)
        ids = list(writer.ids())
        assert len(ids) == len(set(ids)) == reader.count()
        assert len(reader.search([VectorQuery(vector=query_vector(1), limit=5000)])[0]) == len(ids)
        if expected:
            newest = {point_id(number) for number in range(expected["until"] - 50, expected["until"])}
            assert newest <= set(ids)
        writer.upsert(make_points([7]))
        token = writer.publish()
        writer.close()
        reader.close()
        engine.sweep({"g1": token})
    if kind in FILES:
        assert [path.name for path in (tmp_path / "engine" / "g1").iterdir() if path.is_dir()] == [token]
