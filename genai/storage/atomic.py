"""Files and folders that are complete or absent, whatever happens to the process or the machine.

Everything is written under a temporary name in the same folder, fsynced, then renamed. A temporary name says which
process made it (host, pid, start time), so that `sweep` can tell what a dead process left from what a live one writes.

`safe_name` is the one place where a name (of a run, an index, an archive member) turns into a part of a path.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal

from genai.errors import DataError, GenaiError, UsageError

MAX_NAME_LENGTH = 128
CACHE_TAG = "CACHEDIR.TAG"
CACHE_TAG_TEXT = (
    "Signature: 8a477f597d28d172789f06886806bc55\n# Made by genai: all of this can be fetched or computed again.\n"
)
FOREIGN_TEMPORARY_AGE_S = 7 * 24 * 3600.0
"""A temporary name of another host (a shared disk) is swept when nothing changed in it for this long."""

_TEMPORARY = re.compile(r"\..*\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<start>\d+)-[0-9a-f]{8}\.tmp")
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+@=-]*")
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_bytes(path: Path, data: bytes) -> None:
    """Put `data` into `path`: a reader sees the old content or all of the new one.

    Raises:
        GenaiError: the disk is full; the old content stays.
    """
    with atomic_file(path, size_bytes=len(data)) as stream:
        stream.write(data)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of `text` in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """`write_text` of `value` as indented JSON with a newline at the end.

    Raises:
        ValueError: `value` holds NaN or an infinity, which JSON has no word for.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def atomic_file(path: Path, *, size_bytes: int | None = None) -> Iterator[IO[bytes]]:
    """A binary stream whose content appears at `path` when the block ends well, and nowhere when it raises.

    Args:
        path: the final name; its folder is made where it is missing.
        size_bytes: how much will be written, if known: named in the error when the disk is full.

    Raises:
        GenaiError: the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(path)
    with explain_full_disk(path, size_bytes):
        try:
            with open(temporary, "xb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    fsync_folder(path.parent)


@contextmanager
def atomic_directory(path: Path, *, existing: Literal["fail", "keep", "replace"] = "fail") -> Iterator[Path]:
    """A scratch folder beside `path` that becomes `path` when the block ends well, and vanishes when it raises.

    Args:
        path: the final folder; its parent is made where it is missing.
        existing: what to do when `path` is there at the end: "fail" raises, "keep" leaves it and drops the new one
            (right where the content is the same whoever made it, as in a cache), "replace" takes its place; between the
            two renames of "replace" there is a moment without `path`, but never one with half of it.

    Raises:
        DataError: `path` exists and `existing` is "fail".
        GenaiError: the disk is full.
    """
    if existing == "fail" and path.exists():
        raise _already_there(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = temporary_sibling(path)
    with explain_full_disk(path):
        try:
            scratch.mkdir()
            yield scratch
            fsync_tree(scratch)
            if existing == "replace":
                swap_directory(scratch, path)
            else:
                _rename_directory(scratch, path, keep=existing == "keep")
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def swap_directory(scratch: Path, path: Path) -> None:
    """Rename the folder `scratch` to `path`; what was there is renamed first and removed last."""
    doomed = temporary_sibling(path)
    with suppress(FileNotFoundError):
        os.replace(path, doomed)
    os.replace(scratch, path)
    fsync_folder(path.parent)
    if doomed.exists():
        shutil.rmtree(doomed)


def remove_directory(path: Path) -> None:
    """Delete the folder `path`, so that it is whole or gone, never half there: renamed first, then emptied."""
    doomed = temporary_sibling(path)
    try:
        os.replace(path, doomed)
    except FileNotFoundError:
        return
    fsync_folder(path.parent)
    shutil.rmtree(doomed)


def temporary_sibling(path: Path) -> Path:
    """A fresh temporary name beside `path`, which says who made it: `.<name>.<host>-<pid>-<start>-<random>.tmp`."""
    pid = os.getpid()
    maker = f"{_host()}-{pid}-{_start_time(pid)}-{secrets.token_hex(4)}"
    return path.with_name(f".{path.name[:40]}.{maker}.tmp")


def is_temporary(name: str) -> bool:
    """Whether `name`, the last part of a path, is one of `temporary_sibling`'s."""
    return _TEMPORARY.fullmatch(name) is not None


def stale(folder: Path) -> list[Path]:
    """The temporary files and folders directly in `folder` that dead processes left."""
    return [entry for entry in sorted(folder.glob(".*.tmp")) if _is_stale(entry)]


def sweep(folder: Path) -> list[Path]:
    """Remove what is `stale` in `folder`, and return it."""
    left = stale(folder)
    for entry in left:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    return left


def is_alive(pid: int, start: int = 0) -> bool:
    """Whether the process `pid` of this host runs, and is the one that started at `start` (0: any)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it runs, as another user
    return start in (0, _start_time(pid))


def fsync_tree(folder: Path) -> None:
    """Bring every file and folder below `folder`, and `folder` itself, to the disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            fsync_file(Path(root, name))
        fsync_folder(Path(root))


def fsync_file(path: Path) -> None:
    """Bring the content of the file `path` to the disk."""
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())


def fsync_folder(folder: Path) -> None:
    """Bring the names in `folder` to the disk: a rename is not safe before this."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def explain_full_disk(path: Path, size_bytes: int | None = None) -> Iterator[None]:
    """Turn "no space left", "quota exceeded" and "file too large" into one line that names `path` and the bytes needed.

    Args:
        path: what is being written.
        size_bytes: how much it needs, if known.

    Raises:
        GenaiError: in place of the `OSError`, or of the error of a library in Rust (safetensors).
    """
    try:
        yield
    except Exception as error:
        number = _errno_of(error)
        if number not in _DISK_FULL:
            raise
        needed = "" if size_bytes is None else f"{size_bytes} bytes needed, "
        raise GenaiError(
            f"cannot write {path}: {os.strerror(number).lower()} ({needed}{free_bytes(path)} bytes free)",
            fix="make room (genai cache gc, genai runs gc) or write to another disk",
        ) from error


def safe_name(text: str, *, kind: str = "name") -> str:
    """`text`, when it can be one part of a path: ASCII letters, digits and `._+@=-`, no dot or dash at the start.

    Args:
        text: the name a user or an archive gave.
        kind: what is named, for the error ("run name").

    Raises:
        UsageError: it cannot; the fix shows the nearest name that can.
    """
    if len(text) <= MAX_NAME_LENGTH and _SAFE_NAME.fullmatch(text):
        return text
    nearest = re.sub(r"[^A-Za-z0-9._+@=-]+", "-", text).lstrip(".-")[:MAX_NAME_LENGTH].rstrip("-")
    raise UsageError(
        f"{text[:MAX_NAME_LENGTH]!r} cannot be used as a {kind}",
        fix=f"use letters, digits and ._+@=- (at most {MAX_NAME_LENGTH})" + (f", e.g. {nearest!r}" if nearest else ""),
    )


def cache_dir() -> Path:
    """Where genai keeps what it can fetch or compute again: $GENAI_CACHE, else `genai` in $XDG_CACHE_HOME or ~/.cache.

    The folder is made where it is missing, and tagged as a cache while it is empty: without the tag `genai cache gc`
    removes nothing from it.

    Source:
        The tag is https://bford.info/cachedir/, which backup programs know.

    Raises:
        GenaiError: the folder cannot be made, or there is no home directory to make it in.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(os.path.expanduser(os.environ.get("GENAI_CACHE") or f"{base}/genai")).absolute()
    if not (folder / CACHE_TAG).exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not set(os.listdir(folder)) - {"lost+found"}:
                write_text(folder / CACHE_TAG, CACHE_TAG_TEXT)
        except OSError as error:
            raise GenaiError(
                f"the cache folder {folder} cannot be made: {error.strerror}",
                fix="set GENAI_CACHE to a folder that can be written",
            ) from error
    return folder


def free_bytes(path: Path) -> int:
    """Bytes that an ordinary user can still write on the disk of `path`, which need not exist yet."""
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def _rename_directory(scratch: Path, path: Path, *, keep: bool) -> None:
    try:
        os.replace(scratch, path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        if not keep:
            raise _already_there(path) from error
        return
    fsync_folder(path.parent)


def _already_there(path: Path) -> DataError:
    return DataError(f"{path} already exists", fix="remove it or choose another name")


def _errno_of(error: Exception) -> int:
    """The system's number of an error; Rust says it at the end of the text, and numpy how much was written in place of
    "no space left". 0 when there is none.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if isinstance(error, OSError) and re.fullmatch(r"\d+ requested and \d+ written", str(error)):
        return errno.ENOSPC
    said = re.search(r"\(os error (\d+)\)", str(error))
    return int(said[1]) if said else 0


def _is_stale(path: Path) -> bool:
    match = _TEMPORARY.fullmatch(path.name)
    if match is None:
        return False
    if match["host"] != _host():
        try:
            return time.time() - path.stat().st_mtime > FOREIGN_TEMPORARY_AGE_S
        except FileNotFoundError:
            return False
    return not is_alive(int(match["pid"]), int(match["start"]))


def _start_time(pid: int) -> int:
    """When `pid` started, in clock ticks since boot: a pid alone is given out again. 0 where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[19])


def _host() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"
