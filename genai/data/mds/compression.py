"""Compressed shards: zstd, gz and bz2, bounded by the size that index.json announces; the only door to zstandard."""

from __future__ import annotations

import bz2
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from genai.errors import DataError, MissingExtraError, UsageError

LEVELS = {"zstd": range(1, 23), "gz": range(10), "bz2": range(1, 10)}
_PIECE_BYTES = 1 << 20
_DEFAULT_LEVELS = {"zstd": 3, "gz": 9, "bz2": 9}


def parse_compression(text: str) -> tuple[str, int]:
    """Algorithm and level of e.g. `zstd` or `zstd:7`; the algorithm is also the suffix of the file.

    Raises:
        UsageError: it is not supported.
    """
    name, _, level = text.partition(":")
    number = int(level) if level.isascii() and level.isdigit() and len(level) < 3 else _DEFAULT_LEVELS.get(name, 0)
    if name not in LEVELS or number not in LEVELS[name] or (":" in text and str(number) != level):
        raise UsageError(
            f"the compression {text[:40]!r} is not supported", fix="choose zstd, zstd:1 to zstd:22, gz, bz2"
        )
    return name, number


def compress(text: str, data: bytes) -> bytes:
    """`data` compressed by the algorithm and level `text`.

    Raises:
        UsageError: it is not supported.
        MissingExtraError: zstandard is not installed.
    """
    name, level = parse_compression(text)
    if name == "zstd":
        return bytes(_zstandard().ZstdCompressor(level=level).compress(data))
    return gzip.compress(data, level, mtime=0) if name == "gz" else bz2.compress(data, level)


def decompress(text: str, data: bytes, size_bytes: int, where: str) -> bytes:
    """The content of a compressed shard; see `decompressed`."""
    return b"".join(decompressed(text, data, size_bytes, where))


def decompressed(text: str, data: bytes, size_bytes: int, where: str) -> Iterator[bytes]:
    """The content of a compressed shard in pieces, together never more than it should be.

    Args:
        text: algorithm, with or without a level.
        data: the compressed shard.
        size_bytes: how long the content is, by index.json.
        where: the file's URL, for errors.

    Raises:
        DataError: it is damaged, or has another size.
        UsageError: the algorithm is not supported.
        MissingExtraError: zstandard is not installed.
    """
    opener, failures = _opener(parse_compression(text)[0])
    left = size_bytes
    try:
        with opener(io.BytesIO(data)) as stream:
            while piece := stream.read(min(_PIECE_BYTES, left + 1)):
                left -= len(piece)
                if left < 0:
                    raise DataError(f"it decompresses to more than the {size_bytes} bytes in index.json", where=where)
                yield piece
    except failures as error:
        raise DataError(f"it cannot be decompressed: {error}", where=where) from error
    if left:
        found = size_bytes - left
        raise DataError(f"it decompresses to only {found} of the {size_bytes} bytes in index.json", where=where)


def _opener(name: str) -> tuple[Callable[[io.BytesIO], Any], tuple[type[Exception], ...]]:
    """What opens a compressed stream, and what reading it may raise."""
    if name == "zstd":
        zstandard = _zstandard()
        decompressor = zstandard.ZstdDecompressor()
        return lambda raw: decompressor.stream_reader(raw, read_across_frames=True), (zstandard.ZstdError,)
    if name == "gz":
        return lambda raw: gzip.GzipFile(fileobj=raw), (OSError, EOFError, zlib.error)
    return lambda raw: bz2.BZ2File(raw), (OSError, EOFError, ValueError)


def _zstandard() -> Any:
    try:
        import zstandard
    except ModuleNotFoundError as error:
        raise MissingExtraError("zstandard", extra="streaming", needed_for="shards compressed by zstd") from error
    return zstandard
