"""One line of JSON for each request: who asked what, when, and how it ended; never keys or texts.

Lines are gathered and written by a thread of their own, so that a slow disk or a pipe that nobody reads holds up no
answer. What cannot be written is lost and counted.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from datetime import datetime
from pathlib import Path

import msgspec

from genai.errors import UsageError
from genai.log import get_logger

OFF = "off"

_LOGGER = get_logger(__name__)
_STDERR = 2
_PAUSE_S = 0.2
_MOST_WAITING = 50_000
_LONGEST_AGENT = 120


class Entry(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """What is told of a request."""

    time: datetime
    """When it was over."""
    id: str
    app: str
    method: str
    path: str
    """As the API has it, without what varies in it and without a query."""
    status: int
    duration_s: float
    num_bytes: int
    """Of the answer's body."""
    client: str
    """Its address."""
    user_agent: str = ""
    model: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    first_token_s: float | None = None
    finish_reasons: list[str] = []
    error: str = ""
    """Code of the error."""


class AccessLog:
    """Writes entries to a file, which others may write to as well, or to stderr.

    Args:
        path: of the file; None for stderr, `off` for none.

    Raises:
        UsageError: the file cannot be written.
    """

    def __init__(self, path: str | None) -> None:
        self.is_on = path != OFF
        self._path = path
        self.num_lost = 0
        """Lines that could not be written."""
        self._waiting: deque[Entry] = deque()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._writing = threading.Lock()
        self._is_torn = False
        self._has_warned = False
        self._file = _STDERR
        self._thread: threading.Thread | None = None
        if self.is_on:
            self._file = self._open()
            self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
            self._thread.start()

    def write(self, entry: Entry) -> None:
        """Take an entry; it is on disk within a fraction of a second. Any thread."""
        waiting = self._waiting
        if len(waiting) >= _MOST_WAITING:
            self.num_lost += 1
            return
        waiting.append(entry)
        if len(waiting) == 1:
            self._wake.set()

    def reopen(self) -> None:
        """Go on in a new file of that name, after somebody moved the old one away (SIGHUP)."""
        if not self.is_on or self._path is None:
            return
        self.flush()
        new = self._open()
        with self._writing:
            old, self._file, self._is_torn = self._file, new, False
        os.close(old)

    def flush(self) -> None:
        """Write what waits, now."""
        with self._writing:
            entries = []
            while self._waiting:
                entries.append(self._waiting.popleft())
            if entries:
                self._put(entries)

    def close(self) -> None:
        """Write what waits, and stop."""
        if self._thread is None:
            return
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout=10 * _PAUSE_S)
        self._thread = None
        if self._path is not None:
            with self._writing:
                os.close(self._file)
        self.is_on = False

    def _open(self) -> int:
        if self._path is None:
            return _STDERR
        try:
            Path(self._path).parent.mkdir(parents=True, exist_ok=True)
            return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            message = f"the access log cannot be written: {error.strerror}"
            raise UsageError(
                message, where=self._path, fix="set access_log.path to a file in a folder of yours"
            ) from None

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            self._stop.wait(_PAUSE_S)
            self._wake.clear()
            self.flush()
        self.flush()

    def _put(self, entries: list[Entry]) -> None:
        for entry in entries:
            entry.user_agent = entry.user_agent[:_LONGEST_AGENT]
            entry.duration_s = round(entry.duration_s, 6)
        lines = _ENCODER.encode_lines(entries)
        # A line that was cut off is ended, so that the next one stands for itself.
        data = b"\n" + lines if self._is_torn else lines
        try:
            written = os.write(self._file, data)
        except OSError as error:
            self._lose(len(entries), error.strerror or str(error))
            return
        self._is_torn = written < len(data) and data[written - 1 : written] != b"\n"
        if written < len(data):
            self._lose(data.count(b"\n", written), "no space is left")

    def _lose(self, num_lines: int, reason: str) -> None:
        self.num_lost += num_lines
        if not self._has_warned:
            self._has_warned = True
            _LOGGER.warning("lines of the access log are lost: %s; requests are answered all the same", reason)


_ENCODER = msgspec.json.Encoder()
