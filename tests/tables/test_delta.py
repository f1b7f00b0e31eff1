"""Real tables, written by deltalake."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from genai.errors import DataError, MissingExtraError, UsageError
from genai.tables.delta import open_delta

deltalake = pytest.importorskip("deltalake")
pa = pytest.importorskip("pyarrow")


@pytest.fixture
def table(tmp_path: Path) -> str:
    """Version 0 with two rows in two partitions, version 1 with a third row."""
    uri = str(tmp_path / "faq")
    first = pa.table({"text": ["one", "two"], "language": ["en", "sv"], "n": [1, 2]})
    deltalake.write_deltalake(uri, first, partition_by=["language"])
    deltalake.write_deltalake(uri, pa.table({"text": ["three"], "language": ["en"], "n": [3]}), mode="append")
    return uri


def test_the_newest_version_and_an_older_one(table: str) -> None:
    newest = open_delta(table)
    assert newest.version == 1
    assert newest.schema == {"text": "string", "language": "string", "n": "long"}
    rows = list(newest.rows(0, len(newest.file_bytes)))
    assert sorted(rows, key=lambda row: row["n"]) == [
        {"text": "one", "language": "en", "n": 1},
        {"text": "two", "language": "sv", "n": 2},
        {"text": "three", "language": "en", "n": 3},
    ]
    older = open_delta(table, 0)
    assert older.version == 0
    assert len(list(older.rows(0, len(older.file_bytes)))) == 2


def test_files_are_read_one_by_one_in_a_fixed_order(table: str) -> None:
    opened = open_delta(table)
    one_by_one = [row for index in range(len(opened.file_bytes)) for row in opened.rows(index, index + 1)]
    assert one_by_one == list(open_delta(table).rows(0, 3))
    assert all(size > 0 for size in opened.file_bytes)


def test_deleted_rows_are_gone(table: str) -> None:
    deltalake.DeltaTable(table).delete("n = 1")
    opened = open_delta(table)
    assert sorted(row["n"] for row in opened.rows(0, 9)) == [2, 3]


def test_mistakes(table: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no Delta table \(name the folder that holds _delta_log\)"):
        open_delta(str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match=r"the table has no version 9 \(the newest is 1\)"):
        open_delta(table, 9)
    log = Path(table) / "_delta_log" / "00000000000000000001.json"
    log.write_text('{"protocol":{"minReaderVersion":99,"minWriterVersion":99}}\n' + log.read_text())
    with pytest.raises(DataError, match="the Delta table cannot be read: "):
        open_delta(table)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(MissingExtraError) as caught:
        open_delta("lake/faq")
    assert str(caught.value) == (
        "reading delta:lake/faq needs the package 'deltalake', which is not installed "
        "(pip install 'genai-foundry[delta]')"
    )
