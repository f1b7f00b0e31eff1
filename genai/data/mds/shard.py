"""One shard in memory or memory-mapped, and its samples.

    uint32 n; uint32 offsets[n + 1], from the start of the file; a JSON header; n samples.
    sample: uint32 sizes of the columns whose size is not fixed; then the bytes of all columns, in order.

Source: `encode_joint_shard` and `encode_sample` in streaming/base/format/mds/writer.py, mosaicml-streaming 0.13.0.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genai.data.mds.compression import decompress
from genai.data.mds.encodings import BAD_VALUE, parse_encoding
from genai.data.mds.hashes import verify
from genai.data.mds.index import read_index
from genai.data.mds.shard_info import FileInfo, ShardInfo
from genai.errors import DataError
from genai.storage import ObjectStore, join, open_store


class Shard:
    """The samples of one shard, decoded when they are asked for.

    Args:
        data: its whole uncompressed content, bytes or a memory map.
        info: what index.json says of it.
        where: its URL or path, for errors.

    Raises:
        DataError: the content is not what index.json says, or its offsets lead outside of it.
    """

    def __init__(self, data: bytes | mmap.mmap, info: ShardInfo, where: str) -> None:
        self.data = data
        self.info = info
        self.where = where
        self.offsets = _read_offsets(data, info, where)
        self._encodings = [
            parse_encoding(text, name) for text, name in zip(info.column_encodings, info.column_names, strict=True)
        ]

    def __len__(self) -> int:
        return self.info.samples

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample: the value of each column.

        Raises:
            DataError: its bytes are damaged.
        """
        data = self.sample_bytes(index)
        sizes = self.column_sizes(index)
        position = len(data) - sum(sizes)
        sample: dict[str, Any] = {}
        for name, encoding, size in zip(self.info.column_names, self._encodings, sizes, strict=True):
            try:
                sample[name] = encoding.decode(data[position : position + size])
            except BAD_VALUE as error:
                fault = f"sample {index}, column {name!r} is no {encoding.text}: {error}"
                raise DataError(fault, where=self.where) from error
            position += size
        return sample

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(len(self)))

    def sample_bytes(self, index: int) -> bytes:
        """The encoded sample."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.data[int(self.offsets[index]) : int(self.offsets[index + 1])]

    def column_sizes(self, index: int) -> list[int]:
        """Bytes of each column of a sample, in order; with the sizes that stand before them they fill the sample.

        Raises:
            DataError: they do not.
        """
        data = self.sample_bytes(index)
        num_said = sum(encoding.size is None for encoding in self._encodings)
        head = data[: 4 * num_said]
        said = iter(np.frombuffer(head[: len(head) // 4 * 4], "<u4").tolist())
        sizes = [next(said, -1) if encoding.size is None else encoding.size for encoding in self._encodings]
        if min(sizes, default=0) < 0 or 4 * num_said + sum(sizes) != len(data):
            raise DataError(f"the columns of sample {index} do not fill its {len(data)} bytes", where=self.where)
        return sizes


def read_samples(url: str, *, validate_hash: str | None = None) -> Iterator[dict[str, Any]]:
    """All samples of a data set in order, one shard in memory at a time.

    Args:
        url: the folder or bucket that holds index.json.
        validate_hash: a hash to compare the files with, e.g. `sha1`.

    Raises:
        DataError: there is no data set, or it is damaged.
    """
    store = open_store(url)
    for info in read_index(url):
        yield from read_shard(store, info, validate_hash=validate_hash)


def read_shard(store: ObjectStore, info: ShardInfo, *, validate_hash: str | None = None) -> Shard:
    """A shard of a store: mapped where it lies when it lies uncompressed on this disk, else in memory.

    Raises:
        DataError: it is missing or damaged.
    """
    where = join(store.url, info.stored.basename)
    path = store.local_path(info.stored.basename)
    data: bytes | mmap.mmap
    if path is not None and path.is_file():
        data = map_file(path, info.stored)
    else:
        data = store.read(info.stored.basename, 0, info.stored.size_bytes + 1)
    return Shard(unpack(data, info, where, validate_hash=validate_hash), info, where)


def unpack(
    data: bytes | mmap.mmap, info: ShardInfo, where: str, *, validate_hash: str | None = None
) -> bytes | mmap.mmap:
    """The uncompressed content of a stored shard.

    Args:
        data: the stored file.
        info: the shard.
        where: the file's URL, for errors.
        validate_hash: a hash to compare the stored file with.

    Raises:
        DataError: it is damaged.
    """
    check_stored(data, info, where, validate_hash=validate_hash)
    if info.zip_data is None or info.compression is None:
        return data
    return decompress(info.compression, data[:], info.raw_data.size_bytes, where)


def check_stored(data: bytes | mmap.mmap, info: ShardInfo, where: str, *, validate_hash: str | None) -> None:
    """Compare a stored file with what index.json says: its size, and its hash where one is named.

    Raises:
        DataError: it is another.
    """
    if len(data) != info.stored.size_bytes:
        raise _wrong_size(info.stored, len(data), where)
    if validate_hash is not None:
        verify(data, info.stored, validate_hash, where)


def map_file(path: Path, info: FileInfo) -> mmap.mmap:
    """The file `path`, memory-mapped to be read. It stays readable after the file is deleted, but not when it is cut.

    Raises:
        DataError: it is missing, or its size is not the one in index.json.
    """
    try:
        with open(path, "rb") as stream:
            found = stream.seek(0, 2)
            if found != info.size_bytes or not found:
                raise _wrong_size(info, found, str(path))
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise DataError(f"the shard cannot be read: {error.strerror}", where=str(path)) from error


def _wrong_size(info: FileInfo, found: int, where: str) -> DataError:
    than = f"only {found} of" if found < info.size_bytes else "more than"
    return DataError(f"it holds {than} the {info.size_bytes} bytes that index.json says", where=where)


def _read_offsets(data: bytes | mmap.mmap, info: ShardInfo, where: str) -> NDArray[np.uint32]:
    """Where each sample begins and the last one ends, shape (samples + 1,); all within the content and in order."""
    if len(data) != info.raw_data.size_bytes:
        raise _wrong_size(info.raw_data, len(data), where)
    end_of_table = 4 + 4 * (info.samples + 1)
    if len(data) < end_of_table or int.from_bytes(data[:4], "little") != info.samples:
        raise DataError(f"it does not begin with its number of samples, {info.samples}", where=where)
    # a copy: a view of a memory map would keep it from being closed
    offsets = np.frombuffer(data[4:end_of_table], "<u4")
    in_order = bool((offsets[1:] >= offsets[:-1]).all())
    if not in_order or offsets[0] < end_of_table or offsets[-1] != len(data):
        raise DataError("its offsets are not in order or lead outside of it", where=where)
    return offsets
