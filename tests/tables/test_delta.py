"""Real tables, written by deltalake or, where that cannot, by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from genai.errors import DataError, MissingExtraError, UsageError
from genai.tables.delta import open_delta

deltalake = pytest.importorskip("deltalake")
pa = pytest.importorskip("pyarrow")
delta_tables = pytest.importorskip("delta_tables")


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
    assert older.table_id == newest.table_id
    assert (older.count_rows(), newest.count_rows()) == (2, 3)


def test_files_are_read_one_by_one_in_a_fixed_order(table: str) -> None:
    opened = open_delta(table)
    one_by_one = [row for index in range(len(opened.file_bytes)) for row in opened.rows(index, index + 1)]
    assert one_by_one == list(open_delta(table).rows(0, 3))
    assert all(size > 0 for size in opened.file_bytes)


def test_the_engine_gives_the_same_rows(table: str) -> None:
    opened = open_delta(table)
    by_number = sorted(opened.rows(0, 3), key=lambda row: row["n"])
    assert sorted(opened.all_rows(), key=lambda row: row["n"]) == by_number
    assert sorted(row["text"] for row in opened.all_rows(["text"])) == ["one", "three", "two"]


def test_names_that_need_quotes(tmp_path: Path) -> None:
    uri = str(tmp_path / "odd")
    rows = {'say "hi"': [1, 1], "Key": ["it's", "it's"], "select": [None, "x"]}
    deltalake.write_deltalake(uri, pa.table(rows))
    opened = open_delta(uri)
    assert list(opened.all_rows(['say "hi"', "select"])) == [
        {'say "hi"': 1, "select": None},
        {'say "hi"': 1, "select": "x"},
    ]
    assert opened.repeated("Key", ["it's", "that"]) == [("it's", 2)]


def test_deleted_rows_are_gone(table: str) -> None:
    deltalake.DeltaTable(table).delete("n = 1")
    opened = open_delta(table)
    assert sorted(row["n"] for row in opened.rows(0, 9)) == [2, 3]


def test_values_that_several_rows_have(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    deltalake.write_deltalake(uri, pa.table({"id": [1, 2, 2, None, None, None, 7], "word": list("aabbcde")}))
    opened = open_delta(uri)
    assert dict(opened.repeated("id")) == {2: 2, None: 3}
    assert dict(opened.repeated("word")) == {"a": 2, "b": 2}
    assert opened.repeated("id", [1, 7]) == []
    assert opened.repeated("id", [1, 2]) == [(2, 2)]


@pytest.mark.parametrize("inline", [False, True])
def test_deletion_vectors(inline: bool, tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    deltalake.write_deltalake(uri, pa.table({"id": list(range(70_000))}))
    assert delta_tables.delete_by_vector(uri, {0: [0, 3, 69_999]}, inline=inline) == 1
    opened = open_delta(uri)
    assert "deletionVectors" in opened.features
    assert len(opened.file_bytes) == 1
    there = [row["id"] for row in opened.rows(0, 1)]
    assert there == [number for number in range(70_000) if number not in (0, 3, 69_999)]
    assert opened.count_rows() == len(there)
    assert list(opened.rows(1, 2)) == []
    assert len(list(open_delta(uri, 0).rows(0, 1))) == 70_000
    assert opened.has_vectors(0)
    deltalake.write_deltalake(uri, pa.table({"id": [70_000]}), mode="append")
    assert not open_delta(uri).has_vectors(1)


@pytest.mark.parametrize("mode", ["name", "id"])
def test_columns_that_were_renamed(mode: str, tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    delta_tables.write_mapped(uri, pa.table({"id": [1, 2], "t": ["a", "b"]}), mode=mode)
    delta_tables.append_mapped(uri, pa.table({"id": [3], "t": ["c"]}))
    delta_tables.rename_mapped(uri, "t", "text")
    opened = open_delta(uri)
    assert opened.schema == {"id": "long", "text": "string"}
    rows = list(opened.rows(0, len(opened.file_bytes)))
    assert sorted(rows, key=lambda row: row["id"]) == [
        {"id": 1, "text": "a"},
        {"id": 2, "text": "b"},
        {"id": 3, "text": "c"},
    ]
    assert rows == list(open_delta(uri).rows(0, 1))


def test_a_table_without_rows(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    deltalake.write_deltalake(uri, pa.table({"id": pa.array([], pa.int64())}))
    opened = open_delta(uri)
    assert (opened.count_rows(), list(opened.all_rows()), list(opened.rows(0, 5))) == (0, [], [])


def test_a_version_whose_files_were_removed(table: str) -> None:
    deltalake.write_deltalake(table, pa.table({"text": ["x"], "language": ["en"], "n": [4]}), mode="overwrite")
    deltalake.DeltaTable(table).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    opened = open_delta(table, 1)
    for read in (lambda: list(opened.rows(0, 3)), lambda: list(opened.all_rows())):
        with pytest.raises(DataError, match=r"cannot be read: .*\(VACUUM removes files of older versions"):
            read()


def test_mistakes(table: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no Delta table \(name the folder that holds _delta_log\)"):
        open_delta(str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match=r"the table has no version 9 \(the newest is 1\)"):
        open_delta(table, 9)
    log = Path(table) / "_delta_log" / "00000000000000000001.json"
    log.write_text('{"protocol":{"minReaderVersion":99,"minWriterVersion":99}}\n' + log.read_text())
    with pytest.raises(DataError, match="the Delta table cannot be read: "):
        open_delta(table)


@pytest.mark.integration
def test_a_table_in_a_bucket(s3_bucket: str) -> None:
    uri = f"{s3_bucket}/lake/faq"
    options = {"AWS_ALLOW_HTTP": "true", "aws_conditional_put": "etag"}
    deltalake.write_deltalake(uri, pa.table({"id": [1, 2]}), storage_options=options)
    deltalake.write_deltalake(uri, pa.table({"id": [3]}), mode="append", storage_options=options)
    opened = open_delta(uri)
    assert opened.version == 1
    assert sorted(row["id"] for row in opened.rows(0, 2)) == [1, 2, 3]
    assert sorted(row["id"] for row in opened.all_rows()) == [1, 2, 3]
    assert not opened.has_vectors(0)
    assert open_delta(uri, 0).count_rows() == 2
    with pytest.raises(UsageError, match="there is no Delta table"):
        open_delta(f"{s3_bucket}/lake/nothing")


@pytest.mark.integration
def test_a_bucket_that_does_not_answer(s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(DataError, match=r"cannot be read: .*error sending request") as caught:
        open_delta("s3://bucket/faq")
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_the_log_is_read_without_pyarrow(table: str) -> None:
    code = (
        "import sys\n"
        "from genai.tables.delta import open_delta\n"
        f"table = open_delta({table!r})\n"
        "assert (table.version, len(table.file_bytes)) == (1, 3)\n"
        "assert 'pyarrow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(MissingExtraError) as caught:
        open_delta("lake/faq")
    assert str(caught.value) == (
        "reading delta:lake/faq needs the package 'deltalake', which is not installed "
        "(pip install 'genai-foundry[delta]')"
    )
