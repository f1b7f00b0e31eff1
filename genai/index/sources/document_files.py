"""Documents in folders of this machine: what there is, how to tell that it changed, and its content."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from genai.errors import DataError, GenaiError
from genai.index.sources.patterns import Selection, check_suffix, is_hidden, split_pattern
from genai.log import get_logger
from genai.storage.local import path_of

_SETTLES_WITHIN_S = 2.0
"""A file may change twice within one tick of the clock of its file system, which none is longer than this."""
_DEAD_LINK = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_BLOCK_BYTES = 1 << 20
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class FoundFile:
    """A document that is there."""

    key: str
    """Its path below the folder."""
    name: str
    """What messages call it."""
    size_bytes: int
    modified: float
    """Seconds since 1970."""
    stamp: str
    """Changes whenever the content may have; "" where the file is too young to tell."""
    version: Callable[[], str]
    """Changes when the content does; may read all of it."""
    read: Callable[[int], bytes]
    """The content, when it has no more than so many bytes."""


class Folder:
    """A folder of this machine, a single file in one, or what matches a pattern.

    Args:
        url: as the job file has it.
        include: see `Selection`.
        exclude: see `Selection`.
    """

    def __init__(self, url: str, include: list[str], exclude: list[str]) -> None:
        folder, pattern = split_pattern(url) if not path_of(url).exists() else (url, None)
        self._root = path_of(folder)
        self._only: str | None = None
        if pattern is None and self._root.is_file():
            check_suffix(self._root.name)
            self._root, self._only = self._root.parent, self._root.name
        self._selection = Selection(include, exclude, pattern)
        self._warned: set[str] = set()

    def find(self) -> list[FoundFile]:
        """All documents, by their keys.

        Raises:
            DataError: there is no such folder.
            GenaiError: it cannot be listed as a whole.
        """
        if self._only is None:
            paths = list(self._walk(""))
        elif (self._root / self._only).exists():
            paths = [self._only]
        else:
            raise _missing(self._root / self._only)
        now = time.time()
        root, real_root = str(self._root), os.path.realpath(self._root)
        root = "" if root == "." else root
        found: dict[str, FoundFile] = {}
        # names that are composed already come first, so that only others have to give way
        for path in sorted(paths, key=lambda path: (_key(path) != path, path)):
            key = _key(path)
            key = key if key not in found else ascii(path)[1:-1]
            file = _found(key, os.path.join(root, path), real_root, now)
            if file is not None:
                found[key] = file
        return [found[key] for key in sorted(found)]

    def _walk(self, folder: str) -> Iterator[str]:
        """Paths of the documents below a folder; both are relative to the root."""
        try:
            entries = list(os.scandir(self._root / folder))
        except (FileNotFoundError, NotADirectoryError) as error:
            if not folder:
                raise _missing(self._root) from error
            return  # removed since the folder around it was read
        except OSError as error:
            raise GenaiError(f"the folder cannot be listed: {error}", where=str(self._root / folder)) from error
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                if not is_hidden(entry.name):
                    yield from self._walk(path)
            elif entry.is_symlink() and os.path.isdir(entry.path):
                self._warn(path)
            elif self._selection.takes(_key(path)):
                yield path

    def _warn(self, path: str) -> None:
        if path not in self._warned:
            self._warned.add(path)
            _log.warning("%s is a link to a folder, which is not followed", self._root / path)


def _missing(path: Path) -> DataError:
    return DataError("there is no such folder or file", where=str(path), fix="see source.documents")


def _found(key: str, path: str, real_root: str, now: float) -> FoundFile | None:
    try:
        status = os.stat(path)
    except OSError as error:
        if os.path.islink(path) and error.errno in _DEAD_LINK:
            status = os.lstat(path)  # reading it says so
        elif isinstance(error, FileNotFoundError):
            return None  # removed since its folder was read
        else:
            raise GenaiError(f"the file cannot be looked at: {error}", where=path) from error
    is_young = abs(now - status.st_ctime) < _SETTLES_WITHIN_S
    told = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
    stamp = hashlib.blake2b(told.encode(), digest_size=8).hexdigest()  # short, since it is kept for every file
    return FoundFile(
        key=key,
        name=path,
        size_bytes=status.st_size,
        modified=status.st_mtime,
        stamp="" if is_young else stamp,
        version=partial(_version, path, real_root, stamp),
        read=partial(_read, path, real_root),
    )


def _version(path: str, real_root: str, stamp: str) -> str:
    digest = hashlib.sha256()
    try:
        with os.fdopen(_open(path, real_root), "rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
    except DataError:
        return f"unreadable-{stamp}"  # `read` says why
    except OSError as error:
        raise GenaiError(f"the file cannot be read: {error}", where=path) from error
    return digest.hexdigest()[:32]


def _read(path: str, real_root: str, most_bytes: int) -> bytes:
    try:
        with os.fdopen(_open(path, real_root), "rb") as stream:
            content = stream.read(most_bytes + 1)
            check_size(max(len(content), os.fstat(stream.fileno()).st_size), most_bytes, path)
            return content
    except OSError as error:
        raise GenaiError(f"the file cannot be read: {error}", where=path) from error


def _open(path: str, real_root: str) -> int:
    """A descriptor of a plain file that lies, links followed, below the root.

    Raises:
        DataError: it is none, or may not be read.
        OSError: the disk fails, which says nothing about the file.
    """
    real = os.path.realpath(path)
    if os.path.commonpath([real, real_root]) != real_root:
        raise DataError("a link that leads out of the folder is not followed", where=path)
    try:
        if not stat.S_ISREG(os.stat(real).st_mode):  # opening a pipe would wait for ever
            raise DataError("it is no plain file", where=path)
        return os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as error:
        raise DataError("no permission to read it", where=path) from error
    except OSError as error:
        if os.path.islink(path) and error.errno in _DEAD_LINK:
            raise DataError("the link leads nowhere", where=path) from error
        if isinstance(error, FileNotFoundError):
            raise DataError("the file is gone", where=path) from error
        raise


def _key(path: str) -> str:
    r"""The path as text: composed, so that it is found however it is typed; bytes that are no UTF-8 as `\xff`."""
    if path.isascii():
        return path
    return unicodedata.normalize("NFC", os.fsencode(path).decode("utf-8", "backslashreplace"))


def check_size(size_bytes: int, most_bytes: int, name: str) -> None:
    """Refuse a file that is too large.

    Raises:
        DataError: it is.
    """
    if size_bytes > most_bytes:
        message = f"the file has {size_bytes} bytes, more than the {most_bytes} that are allowed"
        raise DataError(message, where=name, fix="raise source.limits.file_size, or leave the file out")
