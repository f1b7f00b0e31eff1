"""Where inputs may be cut: pieces that can be read alone, and the parts that they make."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from genai.data.readers import SourceFile, row_group_sizes

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A stretch of one input that can be read alone."""

    input: int
    """Index of the input."""
    start: int = 0
    """First byte, row group, row or file; its unit is that of the input's kind."""
    end: int = 0
    """The one after the last; 0 for a whole input."""
    rows_before: int = 0
    """Lines or rows before it, for messages."""
    size_bytes: int = 0
    """Its share of the input's size."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A piece of work."""

    index: int
    """Its place in the order of the output."""
    pieces: tuple[Piece, ...]
    """What it reads, in order."""

    @property
    def size_bytes(self) -> int:
        """How much it reads."""
        return sum(piece.size_bytes for piece in self.pieces)


def has_plain_lines(path: Path) -> bool:
    """Whether a JSONL file can be cut between lines: not packed, and not an array after all."""
    if path.suffix.lower() == ".gz":
        return False
    with open(path, "rb") as stream:
        start = stream.read(4096)
    return not start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[") and start[:2] not in (b"\xff\xfe", b"\xfe\xff")


def scan(path: Path, part_bytes: int | None) -> tuple[str, list[Piece]]:
    """The hash of a file, and where it may be cut: after the first line that ends `part_bytes` behind the last cut."""
    digest = hashlib.sha256()
    pieces: list[Piece] = []
    start = position = lines = lines_before = 0
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            offset = 0
            while part_bytes is not None and (cut := _cut(chunk, offset, start + part_bytes - position)) is not None:
                lines += chunk.count(b"\n", offset, cut)
                end = position + cut
                pieces.append(Piece(input=0, start=start, end=end, rows_before=lines_before, size_bytes=end - start))
                start, lines_before, offset = end, lines, cut
            if part_bytes is not None:
                lines += chunk.count(b"\n", offset)
            position += len(chunk)
    if position > start:
        end = position if part_bytes is not None else 0
        pieces.append(Piece(input=0, start=start, end=end, rows_before=lines_before, size_bytes=position - start))
    return digest.hexdigest(), pieces


def _cut(chunk: bytes, offset: int, earliest: int) -> int | None:
    """The offset after the first line feed at or after `earliest`, where there is one in this chunk."""
    found = chunk.find(b"\n", max(offset, earliest - 1, 0))
    return None if found < 0 else found + 1


def row_group_pieces(file: SourceFile, part_bytes: int) -> list[Piece]:
    """Row groups of a Parquet file in a row that together are at least `part_bytes`, the last ones less."""
    pieces: list[Piece] = []
    start = size_bytes = rows_before = rows = 0
    for group, (num_rows, num_bytes) in enumerate(row_group_sizes(file), 1):
        size_bytes += num_bytes
        rows += num_rows
        if size_bytes >= part_bytes:
            pieces.append(Piece(input=0, start=start, end=group, rows_before=rows_before, size_bytes=size_bytes))
            start, rows_before, size_bytes = group, rows, 0
    if size_bytes:
        end = len(row_group_sizes(file))
        pieces.append(Piece(input=0, start=start, end=end, rows_before=rows_before, size_bytes=size_bytes))
    return pieces


def group(pieces: Sequence[Piece], part_bytes: int) -> Iterator[Part]:
    """Pieces in a row that together are at least `part_bytes`, the last ones less."""
    index, waiting, size_bytes = 0, [], 0
    for piece in pieces:
        waiting.append(piece)
        size_bytes += piece.size_bytes
        if size_bytes >= part_bytes:
            yield Part(index=index, pieces=tuple(waiting))
            index, waiting, size_bytes = index + 1, [], 0
    if waiting:
        yield Part(index=index, pieces=tuple(waiting))
