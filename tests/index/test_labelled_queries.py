"""Reading labelled queries, and matching them with an index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from toy_index import ToyIndex, document, make_config

from genai.errors import ConfigError, DataError, UsageError
from genai.index.labelled_queries import LabelledQuery, match, read_queries


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_rows_in_every_form_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "queries.jsonl",
        {"query": "a", "relevant": ["x", "y"]},
        {"query": "b", "relevant": "x", "filter": "topic=floors", "tenant": "acme", "note": "kept by the owner"},
        {"query": "c", "relevant": {"x": 2, "y": 0.5, "z": 0}, "filter": {"year": {">=": 2020}}},
        {"query": "d", "relevant": [17]},
    )
    first, second, third, fourth = read_queries(path)
    assert (first.text, dict(first.relevant), first.source) == ("a", {"x": 1.0, "y": 1.0}, f"{path}:1")
    assert (second.relevant, second.filter, second.tenant) == ({"x": 1.0}, "topic=floors", "acme")
    assert (third.relevant, third.filter) == ({"x": 2.0, "y": 0.5}, {"year": {">=": 2020}})
    assert fourth.relevant == {"17": 1.0}
    assert first.group != second.group


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"relevant": ["x"]}, "no text in 'query'"),
        ({"query": " ", "relevant": ["x"]}, "no text in 'query'"),
        ({"query": 3, "relevant": ["x"]}, "no text in 'query'"),
        ({"query": "a"}, "'relevant' names nothing"),
        ({"query": "a", "relevant": []}, "'relevant' names nothing"),
        ({"query": "a", "relevant": [None]}, "'relevant' names nothing"),
        ({"query": "a", "relevant": [True]}, "'relevant' names nothing"),
        ({"query": "a", "relevant": {}}, "nothing in 'relevant' has a grade above 0"),
        ({"query": "a", "relevant": {"x": 0}}, "nothing in 'relevant' has a grade above 0"),
        ({"query": "a", "relevant": {"x": "high"}}, "a grade in 'relevant' is no number"),
        ({"query": "a", "relevant": ["x"], "filter": 3}, "'filter' is no filter"),
        ({"query": "a", "relevant": ["x"], "tenant": 3}, "'tenant' is no text"),
        ({"query": "a", "relevent": ["x"]}, "unknown field 'relevent' .did you mean 'relevant'"),
        ("{not json}\n", "JSON"),
    ],
)
def test_bad_rows_are_named_with_their_line(tmp_path: Path, row: Any, message: str) -> None:
    path = write(tmp_path / "queries.jsonl", {"query": "fine", "relevant": ["x"]}, row)
    with pytest.raises(ConfigError, match=message) as error:
        read_queries(path)
    assert all((problem.where or "").startswith(f"{path}:2") for problem in error.value.problems)


def test_all_bad_rows_are_told_at_once_but_not_without_end(tmp_path: Path) -> None:
    path = write(tmp_path / "queries.jsonl", *[{"query": "", "relevant": ["x"]}] * 30)
    with pytest.raises(ConfigError, match="and 10 more") as error:
        read_queries(path)
    assert len(error.value.problems) == 21


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.jsonl"):
        read_queries(str(tmp_path / "nothing.jsonl"))


@pytest.fixture
def toy(tmp_path: Path) -> Any:
    index = ToyIndex(make_config(tmp_path))
    index.put(document("x", "roof"), document("y", "floor"))
    yield index
    index.close()


def test_documents_and_chunks_are_told_apart(toy: ToyIndex) -> None:
    [chunk] = toy.ledger.chunks_of("x")
    by_key, by_chunk = match(
        toy.ledger,
        [LabelledQuery(text="a", relevant={"x": 1.0}), LabelledQuery(text="b", relevant={chunk.id: 1.0})],
    )
    assert (by_key.names_chunks, by_chunk.names_chunks) == (False, True)
    found = [("c1", "x"), ("c2", "y"), ("c3", "x")]
    assert by_key.names(found) == ["x", "y"]
    assert by_chunk.names(found) == ["c1", "c2", "c3"]


def test_what_the_index_does_not_hold_is_told(toy: ToyIndex, caplog: pytest.LogCaptureFixture) -> None:
    match(toy.ledger, [LabelledQuery(text="a", relevant={"x": 1.0, "gone": 1.0})])
    assert "1 of 2 relevant keys are not in the index" in caplog.text
    with pytest.raises(DataError, match=r"neither 'X' nor any other \(name documents by their keys, such as 'x'\)"):
        match(toy.ledger, [LabelledQuery(text="a", relevant={"X": 1.0})])
    with pytest.raises(DataError, match="no queries"):
        match(toy.ledger, [])


def test_a_query_may_not_name_both_kinds(toy: ToyIndex) -> None:
    [chunk] = toy.ledger.chunks_of("x")
    with pytest.raises(DataError, match="q:3: a query names documents as well as chunks"):
        match(toy.ledger, [LabelledQuery(text="a", relevant={"y": 1.0, chunk.id: 1.0}, source="q:3")])
