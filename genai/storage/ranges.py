"""One large object by several requests at a time, into a file whose bytes come in any order."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from genai.errors import DataError
from genai.storage import atomic
from genai.storage.base import ObjectInfo
from genai.storage.checksums import sha256_of
from genai.storage.parallel import THREADS

RANGE_BYTES = 8 << 20
"""What one request asks for: large enough that the wait for the answer is short beside it on most lines."""
REQUESTS = THREADS * THREADS
"""Requests of one store at the same time, however many threads download from it."""


def download_ranges(info: ObjectInfo, path: Path, read: Callable[[int, int], bytes], *, url: str) -> None:
    """Bring an object into the file `path`, complete, verified and at once, or not at all.

    Args:
        info: the object: its size, and its SHA-256 where that is known.
        path: the file; its folder is made where it is missing.
        read: gives the bytes from a start up to, not including, an end, all of the version that `info` describes; is
            called by up to `THREADS` threads.
        url: of the object, for messages.

    Raises:
        DataError: what came has another size or SHA-256.
        GenaiError: the disk is full.
    """
    with atomic.atomic_file(path, size_bytes=info.size_bytes) as stream:
        read_ranges(info.size_bytes, stream, read)
        stream.seek(0, os.SEEK_END)
        if stream.tell() != info.size_bytes or (info.sha256 and sha256_of(Path(stream.name)) != info.sha256):
            raise DataError(f"{url} changed or was damaged on its way: its SHA-256 or size is another")


def read_ranges(size_bytes: int, stream: IO[bytes], read: Callable[[int, int], bytes]) -> None:
    """Fill the first `size_bytes` of `stream`, a file open for writing; the first error ends it, and is raised.

    Args:
        size_bytes: of the object.
        stream: its position is neither used nor moved.
        read: as in `download_ranges`.
    """
    descriptor = stream.fileno()
    os.ftruncate(descriptor, size_bytes)

    failed = threading.Event()

    def fill(start: int) -> None:
        if failed.is_set():
            return
        end = min(start + RANGE_BYTES, size_bytes)
        try:
            _write_at(descriptor, read(start, end), start, end)
        except BaseException:
            failed.set()
            raise

    starts = range(0, size_bytes, RANGE_BYTES)
    if len(starts) == 1:
        return fill(0)
    pool = ThreadPoolExecutor(THREADS)
    try:
        for done in [pool.submit(fill, start) for start in starts]:
            done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _write_at(descriptor: int, data: bytes, start: int, end: int) -> None:
    if len(data) != end - start:
        raise DataError(f"{end - start} bytes were asked for, but {len(data)} came", fix="try again")
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, start)
        rest, start = rest[written:], start + written
