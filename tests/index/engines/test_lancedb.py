from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_points import SPEC, bm25, make_points, nearest, query_vector, ranked

from genai.config.index import LanceDbConfig
from genai.errors import DataError, GenaiError, MissingExtraError
from genai.index.engines import lancedb as door
from genai.index.engines import open_engine
from genai.index.engines.lancedb import LanceDbEngine
from genai.index.engines.lancedb_filters import column_name, filter_sql
from genai.index.filters import All, AnyOf, Compare, Not
from genai.index.interfaces import Engine, VectorQuery

pytestmark = pytest.mark.integration


def publish(engine: Engine, numbers: range, token: str | None = None) -> str:
    writer = engine.writer(SPEC, token)
    writer.upsert(make_points(numbers))
    token = writer.publish()
    writer.close()
    return token


def tables(engine: Engine) -> list[str]:
    assert isinstance(engine, LanceDbEngine)
    return sorted(engine._database.list_tables().tables)


def test_an_index_in_a_bucket(s3_bucket: str, tmp_path: Path) -> None:
    config = LanceDbConfig(uri=f"{s3_bucket}/deep/")
    engine, points = open_engine(config, tmp_path / "unused", index="faq"), make_points(range(100))
    before = publish(engine, range(60))
    after = publish(engine, range(60, 100), before)
    again = open_engine(config, tmp_path / "unused", index="faq")
    old, new = again.reader(SPEC, before), again.reader(SPEC, after)
    passing = Compare(column="year", operator=">=", value=2020)
    dense, words = new.search(
        [
            VectorQuery(vector=query_vector(1), limit=9, filter=passing),
            VectorQuery(vector=points[3].sparse, limit=9, filter=passing),
        ]
    )
    assert [hit.id for hit in dense] == nearest(points, query_vector(1), 9, passing)
    assert [hit.id for hit in words] == ranked(bm25(points, points[3].sparse, passing), 9)
    assert (old.count(), new.count()) == (60, 100)
    again.sweep({})
    assert tables(again) == []
    assert not (tmp_path / "unused").exists()
    with pytest.raises(DataError, match=r"not there \(any more\).*genai index rebuild faq"):
        again.reader(SPEC, after)


def test_a_bucket_that_is_not_there_is_named(s3_environment: str, tmp_path: Path) -> None:
    engine = open_engine(LanceDbConfig(uri="s3://no-such-bucket-anywhere"), tmp_path, index="faq")
    with pytest.raises(GenaiError, match="s3://no-such-bucket-anywhere/faq"):
        publish(engine, range(3))


def test_what_a_writer_did_not_publish_is_undone(tmp_path: Path) -> None:
    engine = open_engine(LanceDbConfig(), tmp_path, index="faq")
    token = publish(engine, range(10))
    writer = engine.writer(SPEC, token)
    writer.upsert(make_points(range(10, 20)))
    assert len(list(writer.ids())) == 20  # written, but nobody learns the token
    writer.close()
    assert engine.reader(SPEC, token).count() == 10
    engine.sweep({"g1": token})
    assert engine.reader(SPEC, token).count() == 10
    token = publish(engine, range(20, 23), token)
    assert engine.reader(SPEC, token).count() == 13


def test_old_versions_and_tables_go_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_LOOSE_FILES", 0)
    engine = open_engine(LanceDbConfig(), tmp_path, index="faq")
    old = publish(engine, range(5))
    first = publish(engine, range(5))
    second = publish(engine, range(5, 10), first)
    engine.sweep({"g1": second})
    assert [engine.reader(SPEC, token).count() for token in (old, first, second)] == [5, 5, 10]
    reader = engine.reader(SPEC, first)
    monkeypatch.setattr(door, "KEEP_S", 1e-3)
    engine.sweep({"g1": second})
    assert tables(engine) == [second.partition(":")[0]]
    for token in (old, first):
        with pytest.raises(DataError, match="not there"):
            engine.reader(SPEC, token)
    with pytest.raises(DataError, match="not there"):
        reader.search([VectorQuery(vector=query_vector(0), limit=3)])
    assert engine.reader(SPEC, second).count() == 10


def test_files_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_LOOSE_FILES", 4)
    engine = open_engine(LanceDbConfig(), tmp_path, index="faq")
    token = publish(engine, range(3))
    for number in range(3, 12):
        token = publish(engine, range(number, number + 1), token)
    name = token.partition(":")[0]
    assert isinstance(engine, LanceDbEngine)
    assert engine._database.open_table(name).stats()["fragment_stats"]["num_fragments"] <= 5
    assert engine.reader(SPEC, token).count() == 12


def test_rows_are_replaced_after_the_table_was_optimised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_LOOSE_FILES", 0)
    engine = open_engine(LanceDbConfig(), tmp_path, index="faq")
    token = publish(engine, range(20))
    for seed in (1, 2):
        new = make_points(range(10), seed=seed)
        writer = engine.writer(SPEC, token)
        writer.upsert(new)
        token = writer.publish()
        reader = engine.reader(SPEC, token)
        assert reader.count() == 20
        (hits,) = reader.search([VectorQuery(vector=new[4].dense, limit=1)])
        assert hits[0].score == pytest.approx(1.0, abs=1e-5)


@pytest.mark.slow
def test_the_index_over_the_vectors_finds_enough(tmp_path: Path) -> None:
    config, dimension = LanceDbConfig(exact_below=1000), 64
    rng = np.random.default_rng(1)
    points = make_points(range(8000), dimension=dimension)
    spec = SPEC.__class__(index="faq", generation="g1", dimension=dimension, columns=SPEC.columns)
    engine = open_engine(config, tmp_path, index="faq")
    writer = engine.writer(spec, None)
    writer.upsert(points)
    token = writer.publish()
    writer.upsert(make_points(range(8000, 8100), dimension=dimension))
    token = writer.publish()
    points += make_points(range(8000, 8100), dimension=dimension)
    reader = engine.reader(spec, token)
    filters = [None, Compare(column="year", operator="<", value=2020), Compare(column="year", operator="=", value=2021)]
    for filter in filters:
        found = 0
        for _ in range(20):
            query = (points[rng.integers(8100)].dense + rng.normal(size=dimension) * 0.3).astype(np.float32)
            (hits,) = reader.search([VectorQuery(vector=query, limit=10, filter=filter)])
            found += len({hit.id for hit in hits} & set(nearest(points, query, 10, filter)))
        assert found / 200 >= 0.95, filter


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"needs the package 'lancedb'.*\[lancedb\]"):
        open_engine(LanceDbConfig(), tmp_path, index="faq")


def test_making_an_engine_imports_none_of_the_packages(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from genai.config.index import LanceDbConfig, QdrantConfig, QdrantEdgeConfig
from genai.index.engines import open_engine
for config in (LanceDbConfig(), QdrantConfig(url=":memory:"), QdrantEdgeConfig()):
    open_engine(config, Path(sys.argv[1]), index="faq")
print(sorted({"lancedb", "pyarrow", "pandas", "qdrant_client", "qdrant_edge"} & set(sys.modules)))
"""
    said = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


@pytest.mark.parametrize(
    ("operator", "value", "expected"),
    [
        ("=", "it's", "(m_topic IS NOT NULL AND array_has(m_topic, 'it''s'))"),
        ("!=", "x", "(m_topic IS NOT NULL AND NOT array_has(m_topic, 'x'))"),
        ("in", ("x", "y"), "(m_topic IS NOT NULL AND array_has_any(m_topic, ['x', 'y']))"),
        ("in", (), "false"),
        ("in", (1, 2), "(m_topic IS NOT NULL AND m_topic IN (1, 2))"),
        ("=", True, "(m_topic IS NOT NULL AND m_topic = true)"),
        ("<=", 0.5, "(m_topic IS NOT NULL AND m_topic <= 0.5)"),
        ("exists", None, "(m_topic IS NOT NULL)"),
    ],
)
def test_a_comparison_as_sql(operator: Any, value: Any, expected: str) -> None:
    assert filter_sql(Compare(column="topic", operator=operator, value=value)) == expected


def test_several_together_as_sql() -> None:
    one = Compare(column="a", operator="exists")
    assert filter_sql(All(filters=(one, Not(filter=one)))) == "((m_a IS NOT NULL) AND (NOT (m_a IS NOT NULL)))"
    assert filter_sql(AnyOf(filters=(one,))) == "((m_a IS NOT NULL))"
    assert (filter_sql(All(filters=())), filter_sql(AnyOf(filters=()))) == ("true", "false")
    assert column_name("Größe; DROP TABLE x") == "x_4772c3b6c39f653b2044524f50205441424c452078"
