"""Fetched objects on this machine's disk that together stay below a limit, shared by any number of processes.

Processes that open the same folder share what lies there: each object is fetched once, and the least recently used one
that no live process uses goes when room is needed. All that they know of each other are locks of the kernel on files
in the folder, so a process that dies, however it dies, leaves nothing that the others wait for.

    cache = SizedCache(folder, max_bytes=10 << 30)
    with cache.use("s3://bucket/shard.00000.mds@etag", 67_108_864, lambda path: store.download(key, path)) as path:
        ...  # the file is there, whole, until the block ends

In the folder lie, for the object NAME: `NAME`, its content; `.NAME.lock`, held exclusively by who fetches it (and then
it holds the bytes that it reserved) and shared by those who use it; `.NAME.part/`, what is being fetched.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from genai.errors import DataError, GenaiError, UsageError
from genai.log import get_logger
from genai.storage import atomic
from genai.storage.locks import exclusive, lock_file, release, try_lock

WAIT_FOR_FETCH_S = 3600.0
"""How long the fetch of another process is waited for."""
WAIT_FOR_ROOM_S = 300.0
"""How long others are waited for to finish using what fills the cache."""
_LONGEST_PAUSE_S = 0.1
_NAME = re.compile(r"[A-Za-z0-9._-]+-[0-9a-f]{16}")
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """An object that is there or on its way."""

    path: Path
    size_bytes: int
    last_used_ns: int | None
    """None while it is fetched."""


class SizedCache:
    """A folder of fetched objects, of at most `max_bytes` together.

    Args:
        root: the folder, made by the first use. It may hold other things: they are neither counted nor touched.
        max_bytes: what is there and what is being fetched stays below this; None for no limit. Processes that share
            the folder may have different limits: each keeps its own when it fetches.
    """

    def __init__(self, root: Path, max_bytes: int | None) -> None:
        self._root = root.absolute()
        self._max_bytes = max_bytes

    @contextmanager
    def use(self, key: str, size_bytes: int, fetch: Callable[[Path], None]) -> Iterator[Path]:
        """The local file of `key`, fetched now unless it is there; nobody removes it before the block ends.

        Safe to call from several threads and processes at once, for one key or several, also one inside another. Those
        who ask for one key at the same time wait for one of them to fetch it.

        Args:
            key: says which content this is: what is there under the same key is not fetched again. Let it hold the
                object's URL and its hash or etag.
            size_bytes: how large the file will be; room for it is made before it is fetched.
            fetch: writes the file to the path that it is given, in a folder of its own on the same disk. Called at
                most once. What it raises is raised here, and nothing of what it wrote stays.

        Raises:
            DataError: `fetch` left a file of another size.
            UsageError: `max_bytes` is smaller than this object.
            GenaiError: everything in the cache stayed in use for `WAIT_FOR_ROOM_S`, another process took more than
                `WAIT_FOR_FETCH_S` to fetch this object, or the disk is full.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        path = self._root / _name(key)
        mark = self._obtain(path, size_bytes, fetch)
        try:
            yield path
        finally:
            _touch(path)
            release(mark)

    def has(self, key: str, size_bytes: int) -> bool:
        """Whether `use` would find the object without fetching it; it may be gone a moment later."""
        return _is_there(self._root / _name(key), size_bytes)

    def used_bytes(self) -> int:
        """What is there and what is being fetched, in bytes."""
        if not self._root.is_dir():
            return 0
        with self._ledger():
            return sum(entry.size_bytes for entry in self._entries())

    def _obtain(self, path: Path, size_bytes: int, fetch: Callable[[Path], None]) -> int:
        """The descriptor of a shared lock on `path`, which is there then."""
        deadline = time.monotonic() + WAIT_FOR_FETCH_S
        for pause_s in _pauses():
            there = _is_there(path, size_bytes)
            mark = try_lock(path, exclusive=not there)
            if mark is not None:
                if there == _is_there(path, size_bytes):
                    if there:
                        _touch(path)
                    else:
                        self._make(path, size_bytes, fetch, mark)
                    return mark
                release(mark)  # it came or went between the two looks
            elif time.monotonic() > deadline:
                raise GenaiError(f"another process is still fetching {path}", fix="see whether it hangs, and end it")
            else:
                time.sleep(pause_s)
        raise AssertionError("pauses do not end")

    def _make(self, path: Path, size_bytes: int, fetch: Callable[[Path], None], mark: int) -> None:
        """Fetch into `path`, whose lock we hold exclusively as `mark`; it is shared afterwards, or released."""
        part = _part(path)
        try:
            shutil.rmtree(part, ignore_errors=True)
            self._reserve(path, size_bytes, mark)
            with atomic.explain_full_disk(path, size_bytes):
                part.mkdir()
                fetch(part / path.name)
                _check_size(part / path.name, size_bytes)
                atomic.fsync_file(part / path.name)
            with self._ledger():  # nobody may evict it in the moment in which the lock changes
                os.replace(part / path.name, path)
                fcntl.flock(mark, fcntl.LOCK_SH)
        except BaseException:
            lock_file(path).unlink(missing_ok=True)
            release(mark)
            raise
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _reserve(self, path: Path, size_bytes: int, mark: int) -> None:
        """Wait until there is room, and write into the lock file how much of it is ours."""
        os.ftruncate(mark, 0)
        if self._max_bytes is not None and size_bytes > self._max_bytes:
            raise UsageError(
                f"the cache limit of {self._max_bytes} bytes is smaller than one object of {size_bytes} bytes",
                where=str(self._root),
                fix="raise the limit",
            )
        deadline = time.monotonic() + WAIT_FOR_ROOM_S
        for pause_s in _pauses():
            with self._ledger():
                missing_bytes = self._make_room(path, size_bytes)
                if missing_bytes <= 0:
                    os.pwrite(mark, str(size_bytes).encode(), 0)
                    return
            if time.monotonic() > deadline:
                raise self._too_small(size_bytes, missing_bytes)
            time.sleep(pause_s)

    def _make_room(self, path: Path, size_bytes: int) -> int:
        """Evict what nobody uses, the least recently used first, until `path` fits; the bytes that still lack."""
        if path.exists():
            path.unlink()  # of another size: left by a crash, or changed by hand
        if self._max_bytes is None:
            return 0
        entries = [entry for entry in self._entries() if entry.path != path]
        missing_bytes = sum(entry.size_bytes for entry in entries) + size_bytes - self._max_bytes
        there = [entry for entry in entries if entry.last_used_ns is not None]
        for entry in sorted(there, key=lambda entry: (entry.last_used_ns, entry.path)):
            if missing_bytes <= 0:
                break
            missing_bytes -= entry.size_bytes if _remove(entry.path) else 0
        return missing_bytes

    def _entries(self) -> list[_Entry]:
        """All objects that are there or on their way; what dead processes left half fetched is removed."""
        names = {entry.name for entry in os.scandir(self._root)}
        there = [_entry_there(self._root / name) for name in names if _NAME.fullmatch(name)]
        locked = {name.removeprefix(".").removesuffix(".lock") for name in names if name.endswith(".lock")}
        coming = [_entry_coming(self._root / name) for name in locked - names if _NAME.fullmatch(name)]
        return [entry for entry in (*there, *coming) if entry is not None]

    def _ledger(self) -> AbstractContextManager[None]:
        """Held for a moment by who looks what there is in order to change it."""
        return exclusive(self._root / "ledger", timeout_s=WAIT_FOR_ROOM_S)

    def _too_small(self, size_bytes: int, missing_bytes: int) -> GenaiError:
        return GenaiError(
            f"no room for {size_bytes} bytes: all of the {self._max_bytes} bytes in the cache stayed in use",
            where=str(self._root),
            fix=f"raise the limit by {missing_bytes} bytes or more, or read less ahead",
        )


def _name(key: str) -> str:
    """A file name for `key`: its last part to be read by people, its hash to tell it from all others."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", ".", key.rstrip("/").rpartition("/")[2]).strip(".-")[:60]
    return f"{readable or 'object'}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _is_there(path: Path, size_bytes: int) -> bool:
    try:
        return path.stat().st_size == size_bytes
    except FileNotFoundError:
        return False


def _check_size(path: Path, size_bytes: int) -> None:
    if not _is_there(path, size_bytes):
        found = f"{path.stat().st_size} bytes" if path.exists() else "nothing"
        raise DataError(f"{size_bytes} bytes were expected, but {found} came", where=path.name)


def _touch(path: Path) -> None:
    """Note that the object is used now: many disks do not note reads, and the kernel's own clock ticks slowly."""
    now = time.time_ns()
    try:
        os.utime(path, ns=(now, now))
    except FileNotFoundError:  # somebody emptied the cache by hand
        _log.debug("%s vanished while it was in use", path)


def _entry_there(path: Path) -> _Entry | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return _Entry(path=path, size_bytes=found.st_size, last_used_ns=found.st_mtime_ns)


def _entry_coming(path: Path) -> _Entry | None:
    """What the live process that fetches `path` reserved; None, and tidied up, when there is no such process."""
    mark = try_lock(path, exclusive=True)
    if mark is None:
        try:
            reserved = lock_file(path).read_text()
        except FileNotFoundError:
            return None
        return _Entry(path=path, size_bytes=int(reserved or 0), last_used_ns=None)
    shutil.rmtree(_part(path), ignore_errors=True)
    lock_file(path).unlink(missing_ok=True)
    release(mark)
    return None


def _remove(path: Path) -> bool:
    """Remove the object unless somebody uses it."""
    mark = try_lock(path, exclusive=True)
    if mark is None:
        return False
    path.unlink(missing_ok=True)
    lock_file(path).unlink(missing_ok=True)
    release(mark)
    return True


def _pauses() -> Iterator[float]:
    """Longer and longer, and not the same for all who wait."""
    pause_s = 0.002
    while True:
        yield pause_s * random.uniform(0.5, 1.0)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
