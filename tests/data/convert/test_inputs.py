from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_tables import open_fake

from genai.data.convert.inputs import HubOptions, Inputs, find_inputs
from genai.data.convert.pieces import Part
from genai.data.faults import DataConfigError
from genai.data.readers import Record, SourceFile, read_file, read_line_range, read_row_groups, row_group_sizes
from genai.errors import UsageError


@pytest.fixture
def find() -> Callable[..., Inputs]:
    def find(*references: object, part_bytes: int = 100) -> Inputs:
        words = [str(reference) for reference in references]
        return find_inputs(words, part_bytes=part_bytes, hub_options=HubOptions(), open_table=open_fake)

    return find


def _spans(part: Part) -> list[tuple[int, int, int]]:
    return [(piece.start, piece.end, piece.rows_before) for piece in part.pieces]


@pytest.mark.parametrize("ending", ["\n", ""])
@pytest.mark.parametrize("part_bytes", [1, 40, 41, 1000, 1 << 20])
def test_lines_are_cut_between_lines_and_none_is_lost(
    part_bytes: int, ending: str, find: Callable[..., Inputs], tmp_path: Path
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps({"text": "x" * (7 * n % 50)}) for n in range(40)) + ending)
    inputs = find(file, part_bytes=part_bytes)
    source = SourceFile(path=file, name=str(file))
    found: list[object] = []
    for part in inputs.parts:
        for piece in part.pieces:
            found += read_line_range(source, start=piece.start, end=piece.end, lines_before=piece.rows_before)
    assert found == list(read_file(source))
    assert all(part.size_bytes >= part_bytes for part in inputs.parts[:-1])
    assert inputs.size_bytes == file.stat().st_size == inputs.inputs[0].size_bytes
    assert inputs.inputs[0].sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert inputs.inputs[0].kind == "lines"


def test_lines_across_the_chunks_that_are_hashed(
    find: Callable[..., Inputs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps({"text": "x" * (n % 30)}) for n in range(50)))
    whole = find(file)
    for size in (1, 7, 64):
        monkeypatch.setattr("genai.data.convert.pieces._CHUNK_BYTES", size)
        assert find(file) == whole


def test_small_files_share_a_part_and_empty_ones_do_not_count(find: Callable[..., Inputs], tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text("x" * 40)
    (tmp_path / "3.txt").write_text("")
    (tmp_path / "image.png").write_text("no text")
    (tmp_path / ".hidden.txt").write_text("no")
    inputs = find(tmp_path)
    assert [len(part.pieces) for part in inputs.parts] == [3, 1]
    assert [found.kind for found in inputs.inputs] == ["document"] * 5
    assert [piece.input for part in inputs.parts for piece in part.pieces] == [0, 1, 2, 4]


def test_parquet_is_cut_between_row_groups(find: Callable[..., Inputs], tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": [f"row {n}" for n in range(25)]}), file, row_group_size=10)
    inputs = find(file, part_bytes=1)
    source = SourceFile(path=file, name="rows.parquet")
    assert [_spans(part) for part in inputs.parts] == [[(0, 1, 0)], [(1, 2, 10)], [(2, 3, 20)]]
    assert [rows for rows, _ in row_group_sizes(source)] == [10, 10, 5]
    last = list(read_row_groups(source, start=2, end=3, rows_before=20))
    assert last[0] == Record(values={"text": "row 20"}, source="rows.parquet[21]")
    assert [_spans(part) for part in find(file, part_bytes=1 << 20).parts] == [[(0, 3, 0)]]


@pytest.mark.parametrize(("name", "kind"), [("a.json", "records"), ("a.csv", "records"), ("array.jsonl", "records")])
def test_other_files_are_read_whole(name: str, kind: str, find: Callable[..., Inputs], tmp_path: Path) -> None:
    (tmp_path / name).write_text('[{"text": "x"}]' if name != "a.csv" else "text\nx\n")
    inputs = find(tmp_path / name, part_bytes=2)
    assert inputs.inputs[0].kind == kind
    assert [_spans(part) for part in inputs.parts] == [[(0, 0, 0)]]


def test_tables_are_cut_between_files_and_pinned(find: Callable[..., Inputs]) -> None:
    inputs = find("delta:lake/faq", part_bytes=50)
    assert inputs.inputs[0].name == "delta:lake/faq@7"
    assert inputs.inputs[0].identity() == {
        "name": "delta:lake/faq@7",
        "kind": "table",
        "size_bytes": 120,
        "version": "7",
        "schema": {"text": "string"},
    }
    assert [_spans(part) for part in inputs.parts] == [[(0, 1, 0)], [(1, 2, 0)]]
    assert find("delta:lake/faq@3").inputs[0].version == "3"


def test_mistakes(find: Callable[..., Inputs], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    (tmp_path / "book.pdf").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataConfigError, match="no such file"):
        find(tmp_path / "row.jsonl")
    with pytest.raises(DataConfigError, match=r"'.pdf' is no kind of file that can be converted \(known: .csv"):
        find(tmp_path / "book.pdf")
    with pytest.raises(DataConfigError, match=r"holds no .*\.html.* files"):
        find(tmp_path / "empty")
    with pytest.raises(UsageError, match="nothing to convert: all files are empty"):
        find(tmp_path / "rows.jsonl")
