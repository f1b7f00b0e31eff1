"""A folder as an object store."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from urllib.parse import unquote, urlsplit

from genai.errors import DataError
from genai.storage import atomic
from genai.storage.base import CHUNK_BYTES, ObjectInfo, check_key, missing_object

_MAX_SUGGESTED = 1000


def open_local(url: str) -> LocalStore:
    """The store of a path or a `file://` URL."""
    return LocalStore(path_of(url))


def path_of(url: str) -> Path:
    """The path that a path or a `file://` URL means."""
    return Path(unquote(urlsplit(url).path) if url.startswith("file://") else os.path.expanduser(url))


class LocalStore:
    """Objects are the files below `root`, which is made by the first write."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    @property
    def url(self) -> str:
        return str(self._root)

    def local_path(self, key: str) -> Path:
        return self._root / check_key(key) if key else self._root

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        with self._found(key), open(self.local_path(key), "rb") as stream:
            stream.seek(start)
            return stream.read() if end is None else stream.read(max(end - start, 0))

    def chunks(self, key: str, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        with self._found(key), open(self.local_path(key), "rb") as stream:
            while chunk := stream.read(chunk_bytes):
                yield chunk

    def write(self, key: str, data: bytes) -> None:
        atomic.write_bytes(self.local_path(key), data)

    def upload(self, key: str, path: Path, *, sha256: str | None = None) -> None:
        _copy_file(path, self.local_path(key), sha256)

    def download(self, key: str, path: Path) -> None:
        with self._found(key):
            _copy_file(self.local_path(key), path, None)

    def copy(self, source_key: str, target_key: str) -> None:
        self.download(source_key, self.local_path(target_key))

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        return sorted(self._walk(prefix), key=lambda info: info.key)

    def stat(self, key: str) -> ObjectInfo | None:
        path = self.local_path(key)
        return _info(key, path) if path.is_file() else None

    def delete(self, key: str) -> None:
        self.local_path(key).unlink(missing_ok=True)

    def sweep(self, prefix: str = "") -> int:
        folder = self._folder_of(prefix)
        return sum(len(atomic.sweep(Path(root))) for root, _, _ in os.walk(folder))

    def _folder_of(self, prefix: str) -> Path:
        """The deepest folder that holds every key with this prefix."""
        return self.local_path(prefix.rpartition("/")[0])

    def _walk(self, prefix: str) -> Iterator[ObjectInfo]:
        for root, folders, names in os.walk(self._folder_of(prefix)):
            folders[:] = sorted(name for name in folders if not atomic.is_temporary(name))
            for name in sorted(names):
                path = Path(root, name)
                key = path.relative_to(self._root).as_posix()
                if key.startswith(prefix) and not atomic.is_temporary(name) and path.is_file():
                    yield _info(key, path)

    @contextmanager
    def _found(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            nearby = islice(self._walk(key.rpartition("/")[0]), _MAX_SUGGESTED)
            raise missing_object(self.url, key, [info.key for info in nearby]) from error


def _info(key: str, path: Path) -> ObjectInfo:
    found = path.stat()
    etag = f"{found.st_mtime_ns:x}-{found.st_size:x}"
    return ObjectInfo(key=key, size_bytes=found.st_size, modified=found.st_mtime, etag=etag)


def _copy_file(source: Path, target: Path, sha256: str | None) -> None:
    """Copy atomically; the bytes that pass through are compared with `sha256` where it is given."""
    digest = hashlib.sha256()
    size_bytes = source.stat().st_size
    if source.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(source))
    with open(source, "rb") as reader, atomic.atomic_file(target, size_bytes=size_bytes) as writer:
        while chunk := reader.read(CHUNK_BYTES):
            if sha256 is not None:
                digest.update(chunk)
            writer.write(chunk)
        if sha256 is not None and digest.hexdigest() != sha256:
            raise DataError(f"{source} changed while it was copied: its SHA-256 is not {sha256}")
