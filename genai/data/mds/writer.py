"""Write a data set of shards: each file is complete or absent, and index.json, which makes it a data set, comes last.

Source: `MDSWriter` in streaming/base/format/mds/writer.py and `Writer` in format/base/writer.py, mosaicml-streaming
0.13.0. Uncompressed shards are byte for byte what it writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genai.data.mds.compression import compress, parse_compression
from genai.data.mds.encodings import BAD_VALUE, Encoding, parse_encoding
from genai.data.mds.hashes import hex_digest
from genai.data.mds.index import INDEX, write_index
from genai.data.mds.shard_info import FORMAT, MAX_SHARD_BYTES, FileInfo, ShardInfo
from genai.errors import DataError, UsageError
from genai.storage.atomic import safe_name
from genai.storage.urls import open_store

_OFFSET_BYTES = 4


class MDSWriter:
    """Writes samples into shards of a limited size; leaving the `with` block well makes the data set.

    What is not finished leaves shards that no index.json names: no reader takes them for anything, and a writer with
    the same prefix overwrites them.

    Args:
        out: folder or bucket, anything that `open_store` takes.
        columns: name to encoding, e.g. `{"tokens": "ndarray:uint16:2048"}`.
        compression: `zstd`, `gz` or `bz2`, with a level if wanted (`zstd:7`); None for none.
        hashes: algorithms to record the files' hashes with, e.g. `["sha1"]`.
        size_limit_bytes: a new shard begins before this size is passed (unless one sample is larger).
        prefix: the shards are called `PREFIX.00000.mds`; writers that share a folder need different ones.
        index: write index.json at the end. False for several writers, whose shards `write_index` then puts together.

    Raises:
        DataError: an encoding is not supported, or `out` holds a data set already.
        UsageError: compression, hash, size limit or prefix cannot be used.
    """

    def __init__(
        self,
        out: str,
        columns: Mapping[str, str],
        *,
        compression: str | None = None,
        hashes: Sequence[str] = (),
        size_limit_bytes: int = 1 << 26,
        prefix: str = "shard",
        index: bool = True,
    ) -> None:
        if not 0 < size_limit_bytes <= MAX_SHARD_BYTES:
            raise UsageError(f"a shard of {size_limit_bytes} bytes cannot be written", fix="choose 1 byte to 4 GiB")
        if not columns:
            raise UsageError("a data set needs a column")
        self._out = out
        self._names = tuple(sorted(columns))
        self._encodings = [parse_encoding(columns[name], name) for name in self._names]
        self._suffix = f".{parse_compression(compression)[0]}" if compression else ""
        self._compression = compression or None
        self._hashes = tuple(sorted({*hashes}))
        self._size_limit = size_limit_bytes
        self._prefix = safe_name(prefix, kind="shard prefix")
        self._index = index
        for name in self._hashes:
            hex_digest(name, b"")
        self._store = open_store(out)
        if self._store.stat(INDEX) is not None:
            raise DataError("it holds a data set already", where=out, fix=f"remove its {INDEX}, or write elsewhere")
        self._shards: list[ShardInfo] = []
        self._header = json.dumps(self._info(0, FileInfo(basename="", size_bytes=0), None).config(), sort_keys=True)
        self._begin_shard()

    def __enter__(self) -> MDSWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()

    def write(self, sample: Mapping[str, Any]) -> None:
        """Add one sample, a value for each column.

        Raises:
            DataError: a column is missing or not known, or a value does not fit its encoding.
        """
        if sample.keys() != {*self._names}:
            raise DataError(f"the sample has the columns {sorted(sample)}, not {list(self._names)}", where=self._out)
        values = [
            _encode(sample[name], name, encoding) for name, encoding in zip(self._names, self._encodings, strict=True)
        ]
        sizes = [len(value) for value, encoding in zip(values, self._encodings, strict=True) if encoding.size is None]
        data = np.array(sizes, "<u4").tobytes() + b"".join(values)
        if self._size + len(data) + _OFFSET_BYTES > self._size_limit:
            self._end_shard()
        self._add(data, len(data), 1)

    def write_rows(self, column: str, rows_NS: NDArray[Any]) -> None:
        """Add many samples of a data set with one column of fixed length at once.

        Args:
            column: its name.
            rows_NS: shape (N, S) for the encoding `ndarray:DTYPE:S`, of that dtype.

        Raises:
            DataError: the data set has other columns, or the rows another dtype or length.
        """
        encoding = self._encodings[0]
        if self._names != (column,) or encoding.size is None or not encoding.text.startswith("ndarray:"):
            raise DataError(f"rows need a single column {column!r} of fixed length", where=self._out)
        if not len(rows_NS):
            return
        _encode(rows_NS[0], column, encoding)
        data = np.ascontiguousarray(rows_NS, dtype=rows_NS.dtype.newbyteorder("<"))
        while len(data):
            fitting = (self._size_limit - self._size) // (encoding.size + _OFFSET_BYTES)
            if fitting <= 0 and self._sizes:
                self._end_shard()
                continue
            piece, data = data[: max(fitting, 1)], data[max(fitting, 1) :]
            self._add(piece.tobytes(), encoding.size, len(piece))

    def finish(self) -> list[ShardInfo]:
        """Write what is left and, unless `index` is False, index.json; the shards in order."""
        self._end_shard()
        if self._index:
            write_index(self._out, self._shards)
            self._index = False
        return self._shards

    def _begin_shard(self) -> None:
        self._parts: list[bytes] = []
        self._sizes: list[NDArray[np.int64]] = []
        self._size = _OFFSET_BYTES + _OFFSET_BYTES + len(self._header.encode())

    def _add(self, data: bytes, sample_bytes: int, count: int) -> None:
        self._parts.append(data)
        self._sizes.append(np.full(count, sample_bytes, np.int64))
        self._size += len(data) + count * _OFFSET_BYTES
        if self._size > MAX_SHARD_BYTES:
            raise DataError(f"a sample of {sample_bytes} bytes is larger than a shard can be", where=self._out)

    def _end_shard(self) -> None:
        """Write the samples collected so far, if any, as a shard."""
        if not self._sizes:
            return
        header = self._header.encode()
        sizes = np.concatenate(self._sizes)
        start = _OFFSET_BYTES + _OFFSET_BYTES * (len(sizes) + 1) + len(header)
        offsets = start + np.concatenate([[0], np.cumsum(sizes)])
        head = np.uint32(len(sizes)).astype("<u4").tobytes() + offsets.astype("<u4").tobytes() + header
        data = b"".join([head, *self._parts])
        raw = self._describe(data, f"{self._prefix}.{len(self._shards):05}.{FORMAT}")
        zipped = None
        if self._compression is not None:
            data = compress(self._compression, data)
            zipped = self._describe(data, raw.basename + self._suffix)
        info = self._info(len(sizes), raw, zipped)
        self._store.write(info.stored.basename, data)
        self._shards.append(info)
        self._begin_shard()

    def _describe(self, data: bytes, basename: str) -> FileInfo:
        hashes = {name: hex_digest(name, data) for name in self._hashes}
        return FileInfo(basename=basename, size_bytes=len(data), hashes=hashes)

    def _info(self, samples: int, raw: FileInfo, zipped: FileInfo | None) -> ShardInfo:
        return ShardInfo(
            column_names=self._names,
            column_encodings=tuple(encoding.text for encoding in self._encodings),
            column_sizes=tuple(encoding.size for encoding in self._encodings),
            samples=samples,
            size_limit=self._size_limit,
            compression=self._compression,
            hashes=self._hashes,
            raw_data=raw,
            zip_data=zipped,
        )


def _encode(value: Any, column: str, encoding: Encoding) -> bytes:
    try:
        return encoding.encode(value)
    except BAD_VALUE as error:
        raise DataError(f"column {column!r} cannot hold it as {encoding.text}: {error}") from error
