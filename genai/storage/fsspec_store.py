"""Buckets that fsspec's file systems open, as object stores: what Google's and Azure's have in common.

fsspec's file systems pretend that there are folders, forget why a request failed, and compare no versions. So they are
asked for what they know best, credentials, connections and signed requests, and the few requests of an object store are
made with these, one module for each service: a `Bucket`.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

from genai.errors import DataError, GenaiError
from genai.registry import suggest
from genai.storage.base import CHUNK_BYTES, ObjectInfo, check_key, missing_object
from genai.storage.bucket_errors import Fault, Hints, about, one_line
from genai.storage.checksums import sha256_of
from genai.storage.patience import Call, Patience, Trouble
from genai.storage.ranges import REQUESTS, download_ranges
from genai.storage.upload_journal import Content

T = TypeVar("T")

PART_BYTES = 16 << 20
"""What an upload sends in one request; a larger file goes in parts."""
_MAX_SUGGESTED = 1000


class Bucket(Protocol):
    """One bucket of a service. A name is the whole path in the bucket; errors are those of the client library.

    The hash of the content is kept with an object under the name `sha256` in its metadata.
    """

    scheme: str
    name: str
    hints: Hints

    def endpoint(self) -> str:
        """The server's URL."""

    def head(self, name: str) -> ObjectInfo:
        """The object, its `key` being the name. An absent one raises."""

    def read(self, name: str, start: int, end: int | None, etag: str | None) -> bytes:
        """Bytes of the object, none beyond its end; those of the version `etag`, where it is given."""

    def write(self, name: str, data: bytes, sha256: str) -> None:
        """Put the object there."""

    def send(self, name: str, path: Path, content: Content, call: Call) -> None:
        """Put a large file there in parts; where the service shows them, those of an earlier try are left out."""

    def pages(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects whose name begins with `prefix`."""

    def remove(self, name: str) -> None:
        """Remove the object. An absent one raises, or does not."""

    def copy(self, source: str, target: str) -> None:
        """Copy the object with its metadata."""

    def is_there(self) -> bool:
        """Whether the bucket exists, as far as we may know."""

    def bucket_names(self) -> list[str]:
        """The buckets that can be seen."""

    def fault(self, error: Exception) -> Fault | None:
        """What an exception means; None for one that no request raises."""


class FsspecStore:
    """Objects are those of `bucket` whose name begins with `prefix/`."""

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self._bucket = bucket
        self._root = f"{prefix}/" if prefix else ""
        self._patience = Patience(self.url, self._understand)
        self._requests = threading.BoundedSemaphore(REQUESTS)

    @property
    def url(self) -> str:
        return f"{self._bucket.scheme}://{self._bucket.name}/{self._root}".rstrip("/")

    def local_path(self, key: str) -> None:
        return None

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        name = self._name(key)
        if end is not None and end <= start:
            return b""
        return self._call(key, lambda: self._bucket.read(name, start, end, None))

    def chunks(self, key: str, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        info = self._existing(key)
        for start in range(0, info.size_bytes, chunk_bytes):
            yield self._version(info, start, min(start + chunk_bytes, info.size_bytes))

    def write(self, key: str, data: bytes) -> None:
        self._put(key, data, hashlib.sha256(data).hexdigest())

    def upload(self, key: str, path: Path, *, sha256: str | None = None) -> None:
        name, sha256, size_bytes = self._name(key), sha256 or sha256_of(path), path.stat().st_size
        if size_bytes <= PART_BYTES:
            return self._put(key, path.read_bytes(), sha256)
        content = Content(sha256=sha256, size_bytes=size_bytes, part_bytes=PART_BYTES)
        self._bucket.send(name, path, content, self._patience.for_key(key))

    def download(self, key: str, path: Path) -> None:
        info = self._existing(key)

        def read(start: int, end: int) -> bytes:
            with self._requests:
                return self._version(info, start, end)

        download_ranges(info, path, read, url=f"{self.url}/{key}")

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        found = self._call(None, lambda: list(self._bucket.pages(self._root + prefix)))
        return sorted(map(self._below_root, found), key=lambda info: info.key)

    def stat(self, key: str) -> ObjectInfo | None:
        name = self._name(key)

        def head() -> ObjectInfo | None:
            try:
                return self._below_root(self._bucket.head(name))
            except Exception as error:
                if self._bucket.fault(error) in (Fault.ABSENT, Fault.NO_BUCKET):
                    return None
                raise

        return self._call(key, head)

    def delete(self, key: str) -> None:
        name = self._name(key)

        def remove() -> None:
            try:
                self._bucket.remove(name)
            except Exception as error:
                if self._bucket.fault(error) is not Fault.ABSENT:
                    raise

        self._call(key, remove)

    def copy(self, source_key: str, target_key: str) -> None:
        source, target = self._name(source_key), self._name(target_key)
        self._call(source_key, lambda: self._bucket.copy(source, target))

    def sweep(self, prefix: str = "") -> int:
        """Nothing can be removed: both services show nobody what an interrupted upload left, and drop it in a week."""
        return 0

    def _name(self, key: str) -> str:
        return self._root + check_key(key)

    def _below_root(self, info: ObjectInfo) -> ObjectInfo:
        return ObjectInfo(
            key=info.key.removeprefix(self._root),
            size_bytes=info.size_bytes,
            modified=info.modified,
            etag=info.etag,
            sha256=info.sha256,
        )

    def _put(self, key: str, data: bytes, sha256: str) -> None:
        name = self._name(key)
        self._call(key, lambda: self._bucket.write(name, data, sha256))

    def _existing(self, key: str) -> ObjectInfo:
        """Like `stat`, but an absent object raises."""
        name = self._name(key)
        return self._below_root(self._call(key, lambda: self._bucket.head(name)))

    def _version(self, info: ObjectInfo, start: int, end: int) -> bytes:
        """Bytes of exactly the version that `info` describes."""
        name = self._name(info.key)
        return self._call(info.key, lambda: self._bucket.read(name, start, end, info.etag))

    def _call(self, key: str | None, operation: Callable[[], T]) -> T:
        return self._patience.call(key, operation)

    def _understand(self, error: Exception, key: str | None) -> Trouble | None:
        fault = self._bucket.fault(error)
        if fault is None:
            return None
        return Trouble(
            cause=error,
            transient=fault.transient,
            unreachable=fault is Fault.UNREACHABLE,
            explain=lambda: self._explain(fault, error, key),
        )

    def _explain(self, fault: Fault, error: Exception, key: str | None) -> GenaiError:
        where = f"{self.url}/{key}" if key else self.url
        if fault is Fault.NO_BUCKET or (fault is Fault.ABSENT and not (key and self._ask(self._bucket.is_there, True))):
            near = suggest(self._bucket.name, self._ask(self._bucket.bucket_names, []))
            fix = f"did you mean {near!r}?" if near else None
            return DataError(f"there is no bucket {self._bucket.name!r}", where=where, fix=fix)
        if fault is Fault.ABSENT and key:
            return missing_object(self.url, key, self._ask(lambda: self._nearby_keys(key), []))
        return about(fault, one_line(error), where=where, endpoint=self._bucket.endpoint(), hints=self._bucket.hints)

    def _nearby_keys(self, key: str) -> Iterable[str]:
        """Some keys of the same folder; for suggestions."""
        folder = self._root + key.rpartition("/")[0]
        return [self._below_root(info).key for info in islice(self._bucket.pages(folder), _MAX_SUGGESTED)]

    def _ask(self, question: Callable[[], T], otherwise: T) -> T:
        """The answer to what is only asked to say more in a message."""
        try:
            return question()
        except Exception as error:
            if self._bucket.fault(error) is None:
                raise
            return otherwise


def split_bucket(url: str, scheme: str, kind: str) -> tuple[str, str]:
    """The bucket and the prefix of a URL.

    Args:
        url: `SCHEME://BUCKET/PREFIX`.
        scheme: of the service.
        kind: what the service calls a bucket.

    Raises:
        DataError: no bucket is named.
    """
    name, _, prefix = url.removeprefix(f"{scheme}://").rstrip("/").partition("/")
    if not name:
        raise DataError(f"{url!r} names no {kind}", fix=f"write {scheme}://{kind.upper()}/PATH")
    return name, check_key(prefix) if prefix else ""
