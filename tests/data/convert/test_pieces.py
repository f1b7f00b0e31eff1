from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genai.data.convert.pieces import Piece, group, has_plain_lines, scan


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.text("ab\n", max_size=60), part_bytes=st.integers(1, 20), chunk=st.integers(1, 9))
def test_pieces_tile_the_file_and_end_with_lines(
    content: str, part_bytes: int, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = content.encode()
    (tmp_path / "f").write_bytes(data)
    monkeypatch.setattr("genai.data.convert.pieces._CHUNK_BYTES", chunk)
    sha256, pieces = scan(tmp_path / "f", part_bytes)
    assert sha256 == hashlib.sha256(data).hexdigest()
    assert b"".join(data[piece.start : piece.end] for piece in pieces) == data
    for piece in pieces:
        assert piece.size_bytes == piece.end - piece.start
        assert piece.rows_before == data.count(b"\n", 0, piece.start)
    for piece in pieces[:-1]:
        text = data[piece.start : piece.end]
        assert text.endswith(b"\n")
        assert len(text) >= part_bytes
        assert b"\n" not in text[part_bytes - 1 : -1]


@pytest.mark.parametrize(
    ("name", "content", "plain"),
    [
        ("a.jsonl", b'{"a": 1}', True),
        ("a.jsonl", b'\xef\xbb\xbf\n {"a": 1}', True),
        ("a.jsonl", b' [{"a": 1}]', False),
        ("a.jsonl", '{"a": 1}'.encode("utf-16"), False),
        ("a.jsonl.gz", b'{"a": 1}', False),
    ],
)
def test_files_whose_lines_can_be_read_apart(name: str, content: bytes, plain: bool, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert has_plain_lines(tmp_path / name) is plain


def test_pieces_are_grouped_up_to_a_size() -> None:
    pieces = [Piece(input=number, size_bytes=size) for number, size in enumerate([5, 5, 30, 1, 1])]
    parts = list(group(pieces, 10))
    assert [[piece.input for piece in part.pieces] for part in parts] == [[0, 1], [2], [3, 4]]
    assert [part.index for part in parts] == [0, 1, 2]
