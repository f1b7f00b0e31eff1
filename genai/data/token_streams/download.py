"""One stored shard by several ranged requests at a time: most of a request's time is waiting for the first byte."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from pathlib import Path

from genai.data.mds.compression import decompressed
from genai.data.mds.shard import check_stored, map_file
from genai.data.mds.shard_info import ShardInfo
from genai.errors import DataError
from genai.storage import ObjectStore, join

MIN_PART_BYTES = 1 << 20
MAX_PART_BYTES = 8 << 20
PARTS_A_SHARD = 4
"""Requests for one shard, unless its parts came out too small or too large."""


def download_shard(
    store: ObjectStore, info: ShardInfo, path: Path, requests: Executor, *, validate_hash: str | None = None
) -> None:
    """Put the uncompressed content of a shard into the file `path`.

    Args:
        store: where it is stored.
        info: what index.json says of it.
        path: the file, made here.
        requests: carries out the requests; how many at a time, it decides.
        validate_hash: a hash to compare the stored file with.

    Raises:
        DataError: the shard is missing or damaged.
    """
    where = join(store.url, info.stored.basename)
    if info.zip_data is None or info.compression is None:
        with open(path, "w+b") as stream:
            _fill(store, info, requests, lambda start, data: _write_all(stream.fileno(), start, data))
        check_stored(map_file(path, info.raw_data), info, where, validate_hash=validate_hash)
        return
    pieces: dict[int, bytes] = {}
    _fill(store, info, requests, pieces.__setitem__)
    zipped = b"".join(pieces.pop(start) for start in sorted(pieces))
    check_stored(zipped, info, where, validate_hash=validate_hash)
    with open(path, "wb") as stream:
        stream.writelines(decompressed(info.compression, zipped, info.raw_data.size_bytes, where))


def _fill(store: ObjectStore, info: ShardInfo, requests: Executor, put: Callable[[int, bytes], None]) -> None:
    """Read the stored file part by part; the first failure cancels the parts that have not begun, and is raised."""
    key, size_bytes = info.stored.basename, info.stored.size_bytes
    part_bytes = min(max(-(-size_bytes // PARTS_A_SHARD), MIN_PART_BYTES), MAX_PART_BYTES)

    def read(start: int) -> None:
        end = min(start + part_bytes, size_bytes)
        # the last part asks for a byte more, to see that nothing follows
        data = store.read(key, start, end + (end == size_bytes))
        if len(data) != end - start:
            raise DataError(
                f"it does not have the {size_bytes} bytes that index.json says",
                where=join(store.url, key),
                fix="it was cut short or changed: write the data set anew",
            )
        put(start, data)

    parts: list[Future[None]] = []
    try:
        for start in range(0, size_bytes, part_bytes):
            parts.append(requests.submit(read, start))
        for part in parts:
            part.result()
    finally:
        # nobody may write after we return: those that run are waited for, a cancelled one would never be done
        wait([part for part in parts if not part.cancel()])


def _write_all(descriptor: int, start: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, start)
        view, start = view[written:], start + written
