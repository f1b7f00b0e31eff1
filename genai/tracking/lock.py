"""One process at a time may write into a run directory.

The lock is `flock` on a file, so that the kernel lets go of it however the holder ends, kill -9 included; the file's
text only names the holder. A file system shared between hosts may not pass `flock` on, so a text that another host left
is believed.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from genai.errors import GenaiError

_WAIT_S = 0.4
"""A reader that looks whether the lock is free holds it for a moment, hence a few attempts."""
_PAUSE_S = 0.1

_held: set[int] = set()


def _close_in_child() -> None:
    """A forked worker must not keep the lock alive after its parent has died."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)


class HeldError(GenaiError):
    """Somebody else holds the lock."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that holds, or last held, a lock."""

    host: str
    """Host name."""
    pid: int
    """Process id on that host."""
    started_at: str
    """When it took the lock, ISO 8601 in UTC."""
    command: str
    """The command line, as a shell would take it."""


def now() -> str:
    """The present moment, ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def live_holder(path: Path) -> Holder | None:
    """Who holds the lock file `path`, None when nobody does; a holder on another host counts as living."""
    holder = _recorded(path)
    if holder is None or holder.host != socket.gethostname():
        return holder
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return None if _try_flock(descriptor, fcntl.LOCK_SH) else holder
    finally:
        os.close(descriptor)


@contextmanager
def hold(
    path: Path, *, what: str, alternative: str = "choose another name with --run-name", wait_s: float = _WAIT_S
) -> Iterator[None]:
    """Hold the lock file `path` until the block is left; a lock whose process is gone is taken over.

    Args:
        path: the lock file, made where absent; it stays, emptied, so that nobody locks a file that was just removed.
        what: what is locked, as an error should name it ("run 'faq'").
        alternative: what the user can do beside waiting and stopping the holder.
        wait_s: how long to wait for another process to let go of it.

    Raises:
        HeldError: another process holds it.
        GenaiError: one on another host did, and did not let go of it; or the file system cannot lock.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    _held.add(descriptor)
    try:
        _acquire(descriptor, path, what, alternative, wait_s)
        _record(descriptor)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, what: str, alternative: str, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while not _try_flock(descriptor, fcntl.LOCK_EX):
        if time.monotonic() >= deadline:
            raise _held_elsewhere(_recorded(path), what, alternative)
        time.sleep(_PAUSE_S)
    last = _recorded(path)
    if last is not None and last.host != socket.gethostname():
        raise GenaiError(
            f"{what} is held by process {last.pid} on host {last.host} since {last.started_at} ({last.command}), "
            "and from here it cannot be seen whether that process still lives",
            fix=f"wait for it or stop it there; if it is gone: rm {shlex.quote(str(path))}",
        )


def _held_elsewhere(holder: Holder | None, what: str, alternative: str) -> HeldError:
    if holder is None:
        return HeldError(f"{what} was taken by another process this very moment", fix="try again")
    return HeldError(
        f"{what} is held by process {holder.pid} on host {holder.host} since {holder.started_at} ({holder.command})",
        fix=f"wait for it, stop it with: kill {holder.pid}, or {alternative}",
    )


def _try_flock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise GenaiError(
            f"the file system of the run directory cannot lock files ({error.strerror})",
            fix="set runs_dir to a folder on a local disk",
        ) from error
    return True


def _record(descriptor: int) -> None:
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    holder = Holder(host=socket.gethostname(), pid=os.getpid(), started_at=now(), command=command)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(asdict(holder)).encode(), 0)


def _recorded(path: Path) -> Holder | None:
    """The holder named in the file; None when there is none, or when its text is just being written."""
    try:
        return Holder(**json.loads(path.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
