from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engine_points import SPEC, make_points, nearest, query_vector
from hypothesis import given, settings
from hypothesis import strategies as st

from genai.config.index import ExactConfig
from genai.index.engines import ENGINES, exact, open_engine
from genai.index.engines.columns import filter_mask, load_column, make_column, save_column
from genai.index.engines.postings import load_postings, make_postings
from genai.index.filters import Compare
from genai.index.interfaces import SparseVector, VectorQuery


def sparse(terms: dict[int, float]) -> SparseVector:
    return SparseVector(
        indices=np.asarray(sorted(terms), dtype=np.uint32),
        values=np.asarray([terms[term] for term in sorted(terms)], dtype=np.float32),
    )


def test_the_engines_have_names() -> None:
    assert ENGINES.names() == ["exact", "lancedb", "qdrant", "qdrant_edge"]


def test_many_queries_are_answered_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "_BLOCK_SCORES", 120)
    engine, points = open_engine(ExactConfig(), tmp_path, index="faq"), make_points(range(50))
    writer = engine.writer(SPEC, None)
    writer.upsert(points)
    reader = engine.reader(SPEC, writer.publish())
    queries = [query_vector(seed) for seed in range(7)]
    answers = reader.search([VectorQuery(vector=query, limit=5) for query in queries])
    assert [[hit.id for hit in hits] for hits in answers] == [nearest(points, query, 5) for query in queries]
    reader.close()


def test_a_tie_at_the_end_of_the_list_is_broken_by_id_too(tmp_path: Path) -> None:
    engine = open_engine(ExactConfig(), tmp_path, index="faq")
    twins = [replace(point, dense=query_vector(1)) for point in make_points(range(40))]
    writer = engine.writer(SPEC, None)
    writer.upsert(twins)
    reader = engine.reader(SPEC, writer.publish())
    for filter in (None, Compare(column="year", operator="!=", value=1)):
        (hits,) = reader.search([VectorQuery(vector=query_vector(1), limit=7, filter=filter)])
        passing = [point.id for point in twins if filter is None or "year" in point.payload]
        assert [hit.id for hit in hits] == sorted(passing)[:7]
    reader.close()


ROWS = st.lists(st.dictionaries(st.integers(0, 6), st.floats(0.125, 3, width=32), max_size=4), max_size=8)


@given(old=ROWS, new=ROWS, data=st.data())
@settings(max_examples=60)
def test_postings_hold_the_same_after_joining_and_taking(
    old: list[dict[int, float]], new: list[dict[int, float]], data: st.DataObject
) -> None:
    rows = [*old, *new]
    order = data.draw(st.permutations(range(len(rows)))) if rows else []
    kept = order[: data.draw(st.integers(0, len(rows)))]
    position = np.full(len(rows), -1, dtype=np.int64)
    position[kept] = np.arange(len(kept))
    joined = make_postings([sparse(row) for row in old]).joined(make_postings([sparse(row) for row in new]), len(old))
    taken = joined.taken(position)
    expected = make_postings([sparse(rows[row]) for row in kept])
    for name in ("terms", "starts", "rows", "weights"):
        assert getattr(taken, name).tolist() == getattr(expected, name).tolist()


@given(
    old=st.lists(st.lists(st.sampled_from("abc"), max_size=3, unique=True), max_size=6),
    new=st.lists(st.lists(st.sampled_from("bcd"), max_size=3, unique=True), max_size=6),
    data=st.data(),
)
@settings(max_examples=60)
def test_columns_hold_the_same_after_joining_and_taking(
    old: list[list[str]], new: list[list[str]], data: st.DataObject
) -> None:
    rows = [*old, *new]
    order = data.draw(st.permutations(range(len(rows)))) if rows else []
    kept = order[: data.draw(st.integers(0, len(rows)))]
    position = np.full(len(rows), -1, dtype=np.int64)
    position[kept] = np.arange(len(kept))
    words = [make_column("keyword", "c", [{"c": row} for row in part]) for part in (old, new)]
    numbers = [make_column("integer", "c", [{"c": len(row) or None} for row in part]) for part in (old, new)]
    columns = {
        "w": words[0].joined(words[1], len(old)).taken(position, len(kept)),  # type: ignore[arg-type]
        "n": numbers[0].joined(numbers[1], len(old)).taken(position, len(kept)),  # type: ignore[arg-type]
    }
    for word in "abcd":
        mask = filter_mask(Compare(column="w", operator="=", value=word), columns, len(kept))
        assert mask.tolist() == [word in rows[row] for row in kept]
    for number in range(1, 4):
        mask = filter_mask(Compare(column="n", operator="<=", value=number), columns, len(kept))
        assert mask.tolist() == [0 < len(rows[row]) <= number for row in kept]
    assert not filter_mask(Compare(column="absent", operator="exists"), columns, len(kept)).any()


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    postings = make_postings([sparse({3: 1.5, 7: 0.5}), sparse({}), sparse({3: 1.0})])
    postings.save(tmp_path)
    assert load_postings(tmp_path).scores(sparse({3: 2.0}), 3).tolist() == postings.scores(sparse({3: 2.0}), 3).tolist()
    payloads = [{"c": ["ü", "日本"]}, {}, {"c": "ü"}]
    save_column(make_column("keyword", "c", payloads), tmp_path, "column0")
    columns = {"c": load_column("keyword", tmp_path, "column0")}
    assert filter_mask(Compare(column="c", operator="=", value="ü"), columns, 3).tolist() == [True, False, True]
