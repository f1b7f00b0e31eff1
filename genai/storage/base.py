"""What every object store can do, whether it is a folder or a bucket.

A key is a '/'-separated path below the store's root. Folders are no objects: a prefix is text that keys begin with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from genai.errors import DataError
from genai.registry import suggest

CHUNK_BYTES = 8 << 20


@dataclass(frozen=True, kw_only=True)
class ObjectInfo:
    """One object of a store."""

    key: str
    size_bytes: int
    modified: float
    """Seconds since the epoch."""
    etag: str | None = None
    """Changes when the content does; only comparable within the store."""
    sha256: str | None = None
    """Hex digest of the content, where `stat` finds it kept beside the object."""


class ObjectStore(Protocol):
    """A place for objects. A write is complete or absent; a key that is wrong or not there raises `DataError`."""

    @property
    def url(self) -> str:
        """The root, as `open_store` takes it."""

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes from `start` up to, not including, `end`; fewer where the object ends before."""

    def chunks(self, key: str, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        """The whole content in pieces of `chunk_bytes`, the last one smaller; all of one version of the object."""

    def write(self, key: str, data: bytes) -> None:
        """Put `data` there, in place of what was there."""

    def upload(self, key: str, path: Path, *, sha256: str | None = None) -> None:
        """Put the content of the file `path` there, without holding it in memory.

        Args:
            key: where.
            path: a file.
            sha256: its hex digest, where known: kept with the object by stores that can.
        """

    def download(self, key: str, path: Path) -> None:
        """Put the content into the file `path`, verified as far as the store allows, complete or absent."""

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        """All objects whose key begins with `prefix`, sorted by key."""

    def stat(self, key: str) -> ObjectInfo | None:
        """The object, or None when there is none."""

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens when there is none."""

    def copy(self, source_key: str, target_key: str) -> None:
        """Put the content of one object into another, within the store."""

    def local_path(self, key: str) -> Path | None:
        """Where the object lies on this machine's disk, which means that it can be renamed there; None in a bucket.
        The key "" means the root.
        """

    def sweep(self, prefix: str = "") -> int:
        """Remove what interrupted writes left below `prefix` and return how much that was.

        In a bucket this ends uploads of other processes as well: the caller must be the only writer below `prefix`.
        """


def check_key(key: str) -> str:
    """`key`, when it stays below the store's root on a disk as well as in a bucket.

    Raises:
        DataError: it is empty, absolute, or holds '..', '.', a backslash, a NUL or an empty part.
    """
    parts = key.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in key or "\0" in key:
        raise DataError(f"{key!r} is no safe object key")
    return key


def missing_object(url: str, key: str, candidates: Iterable[str]) -> DataError:
    """The error for an object that is not there.

    Args:
        url: the store's.
        key: what was asked for.
        candidates: keys that are there, to suggest one from.
    """
    near = suggest(key, candidates)
    return DataError(f"no object {key!r} in {url}", fix=f"did you mean {near!r}?" if near else None)
