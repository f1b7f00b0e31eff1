"""Files as sources: all rows, typed; what changed is told by their listing."""

from __future__ import annotations

import gzip
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genai.config.index import IndexSourceConfig
from genai.errors import DataError, GenaiError, UsageError
from genai.index.interfaces import Change, Document, Source
from genai.index.sources.table import open_table_source

ROWS: list[dict[str, Any]] = [
    {"id": "a", "text": "one", "topic": "floors", "n": 1, "tags": ["x", "y"], "price": 1},
    {"id": "b", "text": "two", "topic": None, "n": 2, "tags": [], "price": 2.5},
]
COLUMNS = ["topic", "n", "tags", "price"]
Open = Callable[..., Source]


@pytest.fixture
def open_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens a source in the test's folder."""
    monkeypatch.chdir(tmp_path)

    def open_(table: str = "rows.jsonl", **keys: Any) -> Source:
        keys = {"primary_key": "id", "text": "text", **keys}
        return open_table_source(IndexSourceConfig(table=table, **keys))

    return open_


def write(rows: list[dict[str, Any]], path: str = "rows.jsonl") -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


def documents(source: Source) -> list[Document]:
    found = source.changes(None)
    assert found.complete
    loaded = [change.load() for change in found.rows if change.load is not None]
    assert found.total == len(loaded)
    return loaded


def test_jsonl(open_source: Open) -> None:
    write(ROWS)
    source = open_source(metadata=COLUMNS)
    assert source.uri == "rows.jsonl"
    assert source.columns == {"topic": "keyword", "n": "integer", "tags": "keyword", "price": "float"}
    assert documents(source) == [
        Document(
            key="a",
            text="one",
            metadata={"topic": "floors", "n": 1, "tags": ["x", "y"], "price": 1.0},
            source="rows.jsonl[a]",
        ),
        Document(key="b", text="two", metadata={"n": 2, "tags": [], "price": 2.5}, source="rows.jsonl[b]"),
    ]


def test_csv_holds_texts_only(open_source: Open) -> None:
    Path("rows.csv").write_text("id;text;n;zip;when;flag\n1;one;5;01234;2024-05-01;true\n2;two;;45678;;\n")
    source = open_source("rows.csv", metadata=["n", "zip", "when", "flag"])
    assert source.columns == {"n": "integer", "zip": "keyword", "when": "datetime", "flag": "boolean"}
    first, second = documents(source)
    assert first.metadata == {"n": 5, "zip": "01234", "when": 1714521600.0, "flag": True}
    assert second.metadata == {"zip": "45678"}
    declared = open_source("rows.csv", metadata={"n": "keyword"})
    assert [document.metadata for document in documents(declared)] == [{"n": "5"}, {}]


def test_parquet(open_source: Open) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.Table.from_pylist(ROWS), "rows.parquet")
    source = open_source("rows.parquet", metadata=COLUMNS)
    assert source.columns == {"topic": "keyword", "n": "integer", "tags": "keyword", "price": "float"}
    assert [document.key for document in documents(source)] == ["a", "b"]


def test_a_folder_and_a_pattern(open_source: Open) -> None:
    for name, row in zip(("x.jsonl", "y.jsonl"), ROWS, strict=True):
        Path("data").mkdir(exist_ok=True)
        write([row], f"data/{name}")
    for table in ("data", "data/*.jsonl"):
        assert [d.source for d in documents(open_source(table))] == ["data/x.jsonl[a]", "data/y.jsonl[b]"]
    with gzip.open("data/z.jsonl.gz", "wt") as stream:
        stream.write(json.dumps({"id": "c", "text": "three"}))
    assert len(documents(open_source("data"))) == 3


def test_the_listing_tells_whether_anything_changed(open_source: Open) -> None:
    write(ROWS)
    source = open_source()
    before = source.position()
    assert json.loads(json.dumps(before)) == before
    assert source.position() == before
    assert source.changes(before).state == before
    os.utime("rows.jsonl", ns=(1, 1))
    later = source.position()
    assert later != before
    write([*ROWS, {"id": "c", "text": "three"}])
    assert source.position() != later
    assert open_source(metadata=["n"]).position() != source.position()


def test_versions_change_with_the_columns_that_are_used(open_source: Open) -> None:
    def versions(**keys: Any) -> list[str]:
        return [change.version for change in open_source(**keys).changes(None).rows]

    write(ROWS)
    before = versions()
    write([{**ROWS[0], "topic": "walls"}, {**ROWS[1], "text": "zwei"}])
    after = versions()
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)
    assert versions(metadata=["topic"]) != after


def test_rows_that_cannot_be_used_are_reported_one_by_one(open_source: Open) -> None:
    lines = [json.dumps(ROWS[0]), "{broken", json.dumps({"id": "c", "text": "x", "n": "many"}), json.dumps(ROWS[1])]
    Path("rows.jsonl").write_text("\n".join(lines))
    found = open_source(metadata={"n": "integer"}).changes(None)
    changes = list(found.rows)
    assert [change.key for change in changes] == ["a", "rows.jsonl:2", "c", "b"]
    assert found.total == 3
    assert _fault(changes[1]).startswith("rows.jsonl:2: is no JSON")
    assert _fault(changes[2]).startswith("rows.jsonl[c]: 'n' is 'many', not a whole number")
    for good in (changes[0], changes[3]):
        assert good.load is not None
        assert good.load().metadata


def _fault(change: Change) -> str:
    assert change.load is not None
    with pytest.raises(DataError) as caught:
        change.load()
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "keys", "message"),
    [
        (None, {}, "no such file"),
        ("", {}, "the file is empty"),
        ("{broken\n", {}, "no row can be read"),
        ('{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}\n', {}, r"'id' are not unique, e\.g\. 'a' in 2 rows"),
        ('{"id": null, "text": "x"}\n', {}, "1 rows have no 'id'"),
        ('{"idx": "a", "text": "x"}\n', {}, r"source.primary_key: rows.jsonl has no column 'id' \(did you mean 'idx'"),
        ('{"id": "a", "text": "x"}\n', {"text": "test"}, r"source.text: .*'test' \(did you mean 'text'"),
        ('{"id": "a", "text": "x"}\n', {"tenant": "org"}, "source.tenant: .* no column 'org'"),
        ('{"id": "a", "text": "x"}\n', {"metadata": ["n"]}, "source.metadata: .* no column 'n'"),
        ('{"id": "a", "text": "x", "n": null}\n', {"metadata": ["n"]}, "do not tell the type of 'n' .declare it"),
    ],
)
def test_mistakes(content: str | None, keys: dict[str, Any], message: str, open_source: Open) -> None:
    if content is not None:
        Path("rows.jsonl").write_text(content)
    with pytest.raises(GenaiError, match=message):
        open_source(**keys).changes(None)


def test_all_missing_columns_are_named_at_once(open_source: Open) -> None:
    write(ROWS)
    with pytest.raises(UsageError) as caught:
        open_source(primary_key="key", text=["text", "body"], metadata=["colour"]).changes(None)
    assert [problem.where for problem in caught.value.problems] == [
        "source.primary_key",
        "source.text",
        "source.metadata",
    ]


def test_a_declared_column_may_be_rare(open_source: Open, caplog: pytest.LogCaptureFixture) -> None:
    write(ROWS)
    with caplog.at_level(logging.WARNING, "genai"):
        assert open_source(metadata={"rare": "float"}).columns == {"rare": "float"}
    assert "rows.jsonl has no column 'rare'" in caplog.text


def test_a_listing_that_fails_is_no_listing(open_source: Open) -> None:
    Path("data").mkdir()
    for table in ("data", "data/*.jsonl", "nothing/rows.jsonl"):
        source = open_source(table)
        with pytest.raises(GenaiError):
            source.position()
        with pytest.raises(GenaiError):
            source.changes(None)


@pytest.mark.integration
def test_files_in_a_bucket(open_source: Open, s3_bucket: str, tmp_path: Path) -> None:
    from genai.storage import open_store

    store = open_store(s3_bucket)
    store.write("faq/a.jsonl", json.dumps(ROWS[0]).encode())
    source = open_source(f"{s3_bucket}/faq/*.jsonl")
    before = source.position()
    assert [document.source for document in documents(source)] == [f"{s3_bucket}/faq/a.jsonl[a]"]
    assert source.position() == before
    store.write("faq/b.jsonl", json.dumps(ROWS[1]).encode())
    assert source.position() != before
    assert len(documents(source)) == 2
    with pytest.raises(DataError, match="no object"):
        open_source(f"{s3_bucket}/nothing").position()
