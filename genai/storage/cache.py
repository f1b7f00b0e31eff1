"""What lies in genai's cache, and how it is kept small.

The cache has one folder for each kind of thing (`models`, `data`, ...), and in it one file or folder for each thing.
All of it can be fetched or computed again, so anything may go that no live process uses.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from genai.errors import GenaiError, UsageError
from genai.storage import atomic
from genai.storage.locks import exclusive, is_held, lock_file


@dataclass(frozen=True, kw_only=True)
class CacheEntry:
    """One thing in the cache."""

    kind: str
    """Name of the folder it lies in: models, data, ..."""
    name: str
    path: Path
    size_bytes: int
    last_used: float
    """Seconds since the epoch of the last read or write of a file of it, as far as the disk notes reads."""
    in_use: bool
    """A live process holds its lock, or has a file of it open or mapped."""


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What `collect` removed, or would have."""

    removed: tuple[CacheEntry, ...]
    in_use: tuple[CacheEntry, ...]
    """What would have gone, but is used by a live process."""
    leftovers: tuple[Path, ...]
    """What dead processes had left half written."""


def list_cache(root: Path) -> list[CacheEntry]:
    """Everything in the cache at `root`, the least recently used first."""
    opened = _opened_below(root)
    entries = [
        _entry(path, opened) for kind in _kinds(root) for path in kind.iterdir() if not path.name.startswith(".")
    ]
    return sorted(entries, key=lambda entry: (entry.last_used, entry.kind, entry.name))


def collect(
    root: Path, *, older_than_s: float | None = None, max_bytes: int | None = None, dry_run: bool = False
) -> Collected:
    """Remove what was not used for long, then the least recently used until the rest is small enough.

    Args:
        root: the cache.
        older_than_s: remove what was last used longer ago than this.
        max_bytes: remove until at most this much remains.
        dry_run: remove nothing.

    Raises:
        UsageError: `root` is not tagged as a cache, so that what lies there may be somebody's only copy.
    """
    if root.is_dir() and any(root.iterdir()) and not (root / atomic.CACHE_TAG).exists():
        raise UsageError(
            f"{root} has no {atomic.CACHE_TAG}, so it may hold more than a cache",
            fix=f"set GENAI_CACHE to the right folder, or remove things in {root} yourself",
        )
    leftovers = [path for kind in _kinds(root) for path in (atomic.stale if dry_run else atomic.sweep)(kind)]
    entries = list_cache(root)
    unwanted = list(_unwanted(entries, older_than_s, max_bytes))
    removed = [entry for entry in unwanted if not entry.in_use and (dry_run or _remove(entry))]
    in_use = [entry for entry in unwanted if entry not in removed]
    return Collected(removed=tuple(removed), in_use=tuple(in_use), leftovers=tuple(leftovers))


def _unwanted(entries: list[CacheEntry], older_than_s: float | None, max_bytes: int | None) -> Iterator[CacheEntry]:
    """Of entries sorted by last use: the old ones, and the first ones until the rest fits; one in use frees nothing."""
    remaining_bytes = sum(entry.size_bytes for entry in entries)
    now = time.time()
    for entry in entries:
        too_old = older_than_s is not None and now - entry.last_used > older_than_s
        too_much = max_bytes is not None and remaining_bytes > max_bytes
        if too_old or too_much:
            yield entry
            remaining_bytes -= 0 if entry.in_use else entry.size_bytes


def _remove(entry: CacheEntry) -> bool:
    """Remove it unless somebody has begun to use it; renamed first, so that nobody finds half of it."""
    try:
        with exclusive(entry.path, timeout_s=0):
            if entry.path.is_dir():
                atomic.remove_directory(entry.path)
            else:
                entry.path.unlink(missing_ok=True)
            lock_file(entry.path).unlink(missing_ok=True)
    except GenaiError:
        return False
    return True


def _kinds(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink() and path.name[0] != ".")


def _entry(path: Path, opened: frozenset[str]) -> CacheEntry:
    found = [stat for file in _files(path) if (stat := _stat(file))]
    text = os.path.realpath(path)
    return CacheEntry(
        kind=path.parent.name,
        name=path.name,
        path=path,
        size_bytes=sum(stat.st_size for stat in found),
        last_used=max((max(stat.st_atime, stat.st_mtime) for stat in found), default=0.0),
        in_use=is_held(path) or any(name == text or name.startswith(f"{text}/") for name in opened),
    )


def _files(path: Path) -> list[str]:
    """All files of an entry; the entry itself when it is a file, or empty."""
    return [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names] or [str(path)]


def _stat(file: str) -> os.stat_result | None:
    try:
        return os.stat(file, follow_symlinks=False)
    except FileNotFoundError:  # another process is at work here
        return None


def _opened_below(root: Path) -> frozenset[str]:
    """Files below `root` that a process has open or mapped, as far as /proc shows; none where there is no /proc."""
    start = os.path.realpath(root) + "/"
    found: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            maps = (process / "maps").read_text(errors="replace").splitlines()
            found.update(line.split(maxsplit=5)[5] for line in maps if start in line)
            for link in (process / "fd").iterdir():
                with suppress(FileNotFoundError):  # it was closed meanwhile
                    found.add(os.readlink(link))
    return frozenset(name for name in found if name.startswith(start))
