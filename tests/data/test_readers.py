"""Reading files: every row with its place, every fault with its line and a way out."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.data import readers
from genai.data.faults import DataConfigError
from genai.data.readers import Record, SourceFile, read_file, suffix_of
from genai.data.rows import BadRow

Read = Callable[..., list[Record | BadRow]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def write_and_read(content: bytes | str, name: str = "rows.jsonl") -> list[Record | BadRow]:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return list(read_file(SourceFile(path=path, name=name)))

    return write_and_read


def values(records: list[Record | BadRow]) -> list[Any]:
    return [record.values for record in records if isinstance(record, Record)]


def test_jsonl_with_blank_lines_crlf_and_a_byte_order_mark(read: Read) -> None:
    records = read(b'\xef\xbb\xbf{"a": 1}\r\n\r\n  {"a": "\xc3\xa5"}\r\n{"a": 3}')
    assert records == [
        Record(values={"a": 1}, source="rows.jsonl:1"),
        Record(values={"a": "å"}, source="rows.jsonl:3"),
        Record(values={"a": 3}, source="rows.jsonl:4"),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": }', "is no JSON: expecting value, column 7"),
        (b'{"a": 1} {"a": 2}', "is no JSON: extra data, column 10"),
        (
            b"{",
            "is no JSON: expecting property name enclosed in double quotes, column 2 (a row must stand on one line)",
        ),
        (b"7", 'is a number, not an object such as {"prompt": ..., "response": ...}'),
        (b'"text"', 'is a text, not an object such as {"prompt": ..., "response": ...}'),
        (b"null", 'is null, not an object such as {"prompt": ..., "response": ...}'),
        (b'{"a": "\xe5"}', "byte 0xe5 is no UTF-8 (save the file as UTF-8: iconv -f latin1 -t utf-8 OLD > NEW)"),
    ],
)
def test_a_bad_line_is_named_and_the_others_are_read(line: bytes, reason: str, read: Read) -> None:
    assert read(b'{"a": 1}\n' + line + b'\n{"a": 2}\n') == [
        Record(values={"a": 1}, source="rows.jsonl:1"),
        BadRow(source="rows.jsonl:2", reason=reason),
        Record(values={"a": 2}, source="rows.jsonl:3"),
    ]


def test_json_that_is_too_deep_or_too_large_is_a_bad_row(read: Read) -> None:
    deep, long_number = "[" * 100_000, '{"a": ' + "9" * 5000 + "}"
    records = read(f'{{"a": {deep}}}\n{long_number}\n')
    assert [isinstance(record, BadRow) for record in records] == [True, True]


def test_a_line_without_an_end_in_sight(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MAX_LINE_BYTES", 1 << 20)
    with pytest.raises(DataConfigError, match=r"rows\.jsonl:2: the line is longer than 1 MiB"):
        read('{"a": 1}\n' + "x" * (2 << 20))


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_json_arrays(name: str, read: Read) -> None:
    assert read('\n [{"a": 1},\n 2, {"a": 3}]', name) == [
        Record(values={"a": 1}, source=f"{name}[1]"),
        BadRow(source=f"{name}[2]", reason='is a number, not an object such as {"prompt": ..., "response": ...}'),
        Record(values={"a": 3}, source=f"{name}[3]"),
    ]
    with pytest.raises(DataConfigError, match=rf"{name}:2:8: is no JSON: expecting value"):
        read('[{"a": 1},\n {"a": }]', name)
    with pytest.raises(DataConfigError, match=r"byte 0xe5 is no UTF-8"):
        read(b'[{"a": "\xe5"}]', name)


def test_csv(read: Read) -> None:
    text = 'q,a\nHow long?,"ten, as a rule\nor more"\n\nWhy?,""\none cell\n"x",y,z\n'
    assert read(text, "rows.csv") == [
        Record(values={"q": "How long?", "a": "ten, as a rule\nor more"}, source="rows.csv:3"),
        Record(values={"q": "Why?", "a": ""}, source="rows.csv:5"),
        BadRow(source="rows.csv:6", reason="has 1 cells, the header has 2"),
        BadRow(source="rows.csv:7", reason="has 3 cells, the header has 2"),
    ]


def test_csv_of_spreadsheets(read: Read) -> None:
    assert values(read(b"\xef\xbb\xbfq;a\r\nHur l\xc3\xa4nge?;tio, ungef\xc3\xa4r\r\n", "rows.csv")) == [
        {"q": "Hur länge?", "a": "tio, ungefär"}
    ]
    assert values(read("q\ta\nx;y\tz\n", "rows.tsv")) == [{"q": "x;y", "a": "z"}]
    long = "word " * 100_000
    assert values(read(f"text\n{long}\n", "rows.csv")) == [{"text": long}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"q,,a\n1,2,3\n", r"rows\.csv:1: a column has no name .the first row must name the columns"),
        (b"q,q\n1,2\n", r"rows\.csv:1: two columns are called 'q'"),
        (b'q,a\n1,2\n1,"2\n3,4\n', r"rows\.csv:4: is no CSV: unexpected end of data"),
        (b'q,a\n1,"2"x\n', r"rows\.csv:2: is no CSV"),
        (b"q,a\n1,\xe5\n", r"rows\.csv:\d: byte 0xe5 is no UTF-8"),
        (b"q,a\n", r"rows\.csv: the file holds no rows"),
    ],
)
def test_broken_csv(content: bytes, message: str, read: Read) -> None:
    with pytest.raises(DataConfigError, match=message):
        read(content, "rows.csv")


def test_parquet(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "å"}], "n": None}, {"messages": [], "n": 2}]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    records = list(read_file(SourceFile(path=path, name="s3://bucket/rows.parquet")))
    assert values(records) == rows
    assert [record.source for record in records] == ["s3://bucket/rows.parquet[1]", "s3://bucket/rows.parquet[2]"]


@pytest.mark.parametrize("content", [b"PAR1 and then nothing", b""])
def test_damaged_parquet(content: bytes, read: Read) -> None:
    with pytest.raises(DataConfigError, match=r"rows\.parquet: the (Parquet file cannot be read|file is empty)"):
        read(content, "rows.parquet")


def test_gzip(read: Read) -> None:
    packed = gzip.compress(b'{"a": 1}\n')
    assert values(read(packed, "rows.jsonl.gz")) == [{"a": 1}]
    assert values(read(gzip.compress(b"a,b\n1,2\n"), "rows.csv.gz")) == [{"a": "1", "b": "2"}]
    for damaged in (packed[:-6], b"no gzip at all", packed[:12] + b"\xff\xff\xff" + packed[15:]):
        with pytest.raises(DataConfigError, match=r"rows\.jsonl\.gz: the gzip file is damaged"):
            read(damaged, "rows.jsonl.gz")


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "rows.jsonl", "rows.jsonl: the file is empty"),
        (b" \n\n", "rows.jsonl", "rows.jsonl: the file holds no rows"),
        (b"[]", "rows.json", "rows.json: the file holds no rows"),
        (b"", "rows.csv", "rows.csv: the file is empty"),
        (b"hello", "rows.docx", "rows.docx: '.docx' is no kind of data file that is known (known: .jsonl,"),
        (b"hello", "rows", "rows: '' is no kind of data file"),
        ('{"a": 1}'.encode("utf-16"), "rows.jsonl", "rows.jsonl: the file is UTF-16 (save it as UTF-8)"),
    ],
)
def test_files_that_cannot_be_used(content: bytes, name: str, message: str, read: Read) -> None:
    with pytest.raises(DataConfigError) as caught:
        read(content, name)
    assert str(caught.value).startswith(message)
    assert caught.value.key == "dataset.path"
    assert "\n" not in str(caught.value)


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n')

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)  # root may read everything, so chmod would not do
    with pytest.raises(DataConfigError, match="no permission to read it"):
        list(read_file(SourceFile(path=path, name="rows.jsonl")))


def test_suffixes() -> None:
    names = ["a.jsonl", "a.JSONL.gz", "b.v2.csv", "c", "d.gz"]
    assert [suffix_of(Path(name)) for name in names] == [".jsonl", ".jsonl", ".csv", "", ""]


@given(st.lists(st.dictionaries(st.text(), st.one_of(st.none(), st.integers(), st.text())), min_size=1, max_size=8))
def test_what_json_writes_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.mktemp("json") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert values(list(read_file(SourceFile(path=path, name="rows.jsonl")))) == rows


@given(
    content=st.binary(max_size=200),
    name=st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet", "a.jsonl.gz"]),
)
def test_no_bytes_end_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str) -> None:
    path = tmp_path_factory.mktemp("bytes") / name
    path.write_bytes(content)
    try:
        records = list(read_file(SourceFile(path=path, name=name)))
    except DataConfigError as error:
        assert str(error).startswith(name)
    else:
        assert all(record.source.startswith(name) for record in records)
