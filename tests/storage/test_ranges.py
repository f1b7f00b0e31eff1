from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from genai.errors import DataError, GenaiError
from genai.storage import ranges
from genai.storage.base import ObjectInfo
from genai.storage.parallel import THREADS
from genai.storage.ranges import download_ranges

CONTENT = os.urandom(1000)


@pytest.fixture(autouse=True)
def _small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "RANGE_BYTES", 64)


def info(size_bytes: int = len(CONTENT), content: bytes = CONTENT) -> ObjectInfo:
    return ObjectInfo(key="k", size_bytes=size_bytes, modified=0, sha256=hashlib.sha256(content).hexdigest())


def test_ranges_come_at_the_same_time_and_in_any_order(tmp_path: Path) -> None:
    together = threading.Barrier(THREADS, timeout=10)
    asked = []

    def read(start: int, end: int) -> bytes:
        if start < 64 * THREADS:
            together.wait()
        asked.append((start, end))
        return CONTENT[start:end]

    download_ranges(info(), tmp_path / "deep" / "target", read, url="s3://b/k")
    assert (tmp_path / "deep" / "target").read_bytes() == CONTENT
    assert sorted(asked) == [(start, min(start + 64, 1000)) for start in range(0, 1000, 64)]


@pytest.mark.parametrize("size_bytes", [0, 1, 63, 64, 65, 128])
def test_objects_of_any_size(size_bytes: int, tmp_path: Path) -> None:
    content = CONTENT[:size_bytes]
    download_ranges(info(size_bytes, content), tmp_path / "x", lambda start, end: content[start:end], url="s3://b/k")
    assert (tmp_path / "x").read_bytes() == content


def test_the_first_error_ends_it_and_nothing_stays(tmp_path: Path) -> None:
    asked = []

    def read(start: int, end: int) -> bytes:
        asked.append(start)
        raise GenaiError("planted")

    with pytest.raises(GenaiError, match="planted"):
        download_ranges(info(64_000), tmp_path / "target", read, url="s3://b/k")
    assert len(asked) < 100
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda start, end: CONTENT[start : end - 1], "64 bytes were asked for, but 63 came"),
        (lambda start, end: b"x" * (end - start), "s3://b/k changed or was damaged on its way"),
    ],
)
def test_what_is_short_or_damaged_is_refused(read: Callable[[int, int], bytes], message: str, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"before")
    with pytest.raises(DataError, match=message):
        download_ranges(info(), tmp_path / "target", read, url="s3://b/k")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


def test_a_full_disk_says_how_much_is_needed(
    tmp_path: Path, file_limit: Callable[[int], AbstractContextManager[None]]
) -> None:
    with file_limit(500), pytest.raises(GenaiError, match=r"cannot write .*target.*1000 bytes needed"):
        download_ranges(info(), tmp_path / "target", lambda start, end: CONTENT[start:end], url="s3://b/k")
    assert list(tmp_path.iterdir()) == []
