"""Locks between processes of one machine, kept by the kernel: a process that dies, however it dies, lets go.

The lock of a file or folder is an empty `.<name>.lock` beside it. Whoever makes a thing holds its lock `exclusive`;
whoever uses one holds it `shared`, which is how `genai cache gc` knows what to leave alone.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genai.errors import GenaiError
from genai.log import get_logger

_POLL_S = 0.1
_FIRST_POLL_S = 0.002
_log = get_logger(__name__)


@contextmanager
def exclusive(path: Path, *, timeout_s: float) -> Iterator[None]:
    """Be the only holder of `path`'s lock, waiting for others to finish.

    Args:
        path: the file or folder, which need not exist; the folder around it is made where it is missing.
        timeout_s: how long to wait; 0 asks once.

    Raises:
        GenaiError: others still hold it after `timeout_s`.
    """
    with _locked(path, True, timeout_s):
        yield


@contextmanager
def shared(path: Path, *, timeout_s: float = 60.0) -> Iterator[None]:
    """Hold `path`'s lock together with other users of it, so that nobody makes it anew or removes it.

    Raises:
        GenaiError: a maker still holds it after `timeout_s`.
    """
    with _locked(path, False, timeout_s):
        yield


def is_held(path: Path) -> bool:
    """Whether a live process holds `path`'s lock in either way."""
    if not lock_file(path).exists():
        return False
    try:
        with exclusive(path, timeout_s=0):
            return False
    except GenaiError:
        return True


def lock_file(path: Path) -> Path:
    """Where the lock of `path` lies. It may be removed by who holds it exclusively, and by nobody else."""
    return path.with_name(f".{path.name}.lock")


def try_lock(path: Path, *, exclusive: bool) -> int | None:
    """Take `path`'s lock without waiting.

    Args:
        path: the file or folder, whose own folder is there.
        exclusive: be the only holder; else one of those who share it.

    Returns:
        the descriptor of the lock file, for `release`; None when others hold the lock.
    """
    operation = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    while True:
        descriptor = os.open(lock_file(path), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
            if _is_current(descriptor, path):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        os.close(descriptor)


def release(descriptor: int) -> None:
    """Let go of what `try_lock` took, also for processes that were forked meanwhile and hold the same descriptor."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


@contextmanager
def _locked(path: Path, alone: bool, timeout_s: float) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _acquire(path, alone, timeout_s)
    try:
        yield
    finally:
        release(descriptor)


def _acquire(path: Path, alone: bool, timeout_s: float) -> int:
    deadline = time.monotonic() + timeout_s
    pause_s = _FIRST_POLL_S
    while (descriptor := try_lock(path, exclusive=alone)) is None:
        if time.monotonic() >= deadline:
            raise GenaiError(f"{path} is in use by another process", fix="wait until it is done")
        time.sleep(pause_s)
        if pause_s < _POLL_S <= (pause_s := min(2 * pause_s, _POLL_S)):
            _log.info("waiting for another process that uses %s", path)
    return descriptor


def _is_current(descriptor: int, path: Path) -> bool:
    """False when the lock file was removed, and perhaps made anew, between our opening and locking it."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(lock_file(path)))
    except FileNotFoundError:
        return False
