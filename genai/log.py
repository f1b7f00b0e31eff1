"""Logging and progress, without a dependency: everything goes to stderr, results go to stdout elsewhere.

Rooms call `get_logger(__name__)` and `progress(...)`. The command line installs a nicer `ProgressFactory` (rich) with
`set_progress_factory`; without one, a line every few seconds is written, which is what a CI log wants.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

_ROOT = "genai"


def get_logger(name: str) -> logging.Logger:
    """A logger below `genai`, e.g. `get_logger(__name__)`."""
    return logging.getLogger(name if name.startswith(_ROOT) else f"{_ROOT}.{name}")


def configure(*, quiet: bool = False, debug: bool = False, handler: logging.Handler | None = None) -> None:
    """Send genai's log lines to stderr, once; a second call replaces the first.

    Args:
        quiet: only warnings and errors.
        debug: everything, with the logger's name.
        handler: a handler to use instead of the plain stderr one (the command line passes rich's).
    """
    root = logging.getLogger(_ROOT)
    for old in list(root.handlers):
        root.removeHandler(old)
    if handler is None:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s" if debug else "%(message)s"))
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO)
    root.propagate = False


class ProgressTask(Protocol):
    """One bar. `update` may be called at any rate; the implementation throttles what it draws."""

    def update(self, completed: float, **fields: str) -> None:
        """Set how much is done (same unit as `total`) and the short texts shown beside it, e.g. `loss="2.31"`."""

    def close(self) -> None:
        """Finish the bar; further calls do nothing."""


class ProgressFactory(Protocol):
    """Makes a progress bar; met by rich in `cli/output.py`."""

    def __call__(self, description: str, total: float | None) -> ProgressTask: ...


class LineProgress:
    """A progress 'bar' for logs: one line every `interval_s` seconds, and one at the end of what took as long."""

    def __init__(self, description: str, total: float | None, *, interval_s: float = 10.0) -> None:
        self._description = description
        self._total = total
        self._interval_s = interval_s
        self._started = self._last = time.monotonic()
        self._text = ""
        self._closed = False

    def update(self, completed: float, **fields: str) -> None:
        done = f"{completed:g}" if self._total is None else f"{completed:g}/{self._total:g}"
        extra = " ".join(f"{key}={value}" for key, value in fields.items())
        self._text = f"{self._description} {done} {extra}".rstrip()
        if not self._closed and time.monotonic() - self._last >= self._interval_s:
            self._write()

    def close(self) -> None:
        if not self._closed and self._text and time.monotonic() - self._started >= self._interval_s:
            self._write()
        self._closed = True

    def _write(self) -> None:
        self._last = time.monotonic()
        logging.getLogger(_ROOT).info(self._text)


_factory: ProgressFactory = LineProgress


def set_progress_factory(factory: ProgressFactory) -> None:
    """Let `factory` draw all progress from now on."""
    global _factory
    _factory = factory


@contextmanager
def progress(description: str, total: float | None = None) -> Iterator[ProgressTask]:
    """A progress task that is closed on leaving.

    Args:
        description: what is going on, e.g. "training".
        total: how much there is to do, None where that is unknown.
    """
    task = _factory(description, total)
    try:
        yield task
    finally:
        task.close()
