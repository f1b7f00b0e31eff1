"""Parsing in a process of its own, with limits on time and memory.

    parser = IsolatedParser(ParseLimits(time_s=60, memory_bytes=1 << 30))
    document = parser.parse(content, ".pdf", name="manual.pdf")

One process reads file after file. A file that hangs, crashes it or fills its memory costs that process, and the next
file gets a new one; nothing of it reaches this process but plain values. The environment of that process holds no
secrets.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from dataclasses import dataclass
from typing import IO, Any

from genai.data.documents.frames import BrokenFrameError, receive, send
from genai.data.documents.parsed import ParsedDocument, Section
from genai.errors import DataError, GenaiError, UsageError
from genai.log import get_logger

LEAST_MEMORY_BYTES = 128 << 20
"""Less is not enough to start."""
_STARTS_WITHIN_S = 60.0
_ENDS_WITHIN_S = 10.0
_KEPT_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TZ")
_MORE_MEMORY = "it may be damaged, or need more than source.limits.memory"
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ParseLimits:
    """What parsing one file may cost."""

    time_s: float = 60.0
    """Seconds on the clock."""
    memory_bytes: int = 1 << 30
    """Address space of the process that parses."""


class _WorkerLostError(Exception):
    """The process could not go on: it crashed, or its memory was not enough. The message says which."""


class IsolatedParser:
    """Parses files in another process, which is started by the first file. May be used by several threads.

    Args:
        limits: for each file.

    Raises:
        UsageError: the limits are too narrow to start a process.
    """

    def __init__(self, limits: ParseLimits) -> None:
        if limits.memory_bytes < LEAST_MEMORY_BYTES:
            least = f"{LEAST_MEMORY_BYTES >> 20}mb"
            raise UsageError(
                f"a parser cannot start with less than {least} of memory", where="source.limits.memory", fix="raise it"
            )
        self._limits = limits
        self._lock = threading.Lock()
        self._worker: _Worker | None = None

    def parse(self, content: bytes, suffix: str, *, name: str) -> ParsedDocument:
        """The text of one file.

        Args:
            content: of the file.
            suffix: one of `DOCUMENT_SUFFIXES`.
            name: what messages call it.

        Raises:
            DataError: it cannot be used, or parsing it goes beyond the limits.
            UsageError: the package for this kind of file is not installed.
        """
        with self._lock:
            worker = self._worker
            if worker is not None:
                try:
                    return self._parse(worker, content, suffix, name)
                except _WorkerLostError as error:  # files before this one may be to blame: ask again
                    _log.debug("%s: %s; trying once more in a new process", name, error)
            try:
                return self._parse(_Worker(self._limits), content, suffix, name)
            except _WorkerLostError as error:
                raise DataError(str(error), where=name, fix=_MORE_MEMORY) from error

    def close(self) -> None:
        """End the process; a further file would start another one."""
        with self._lock:
            if self._worker is not None:
                self._worker.end()
                self._worker = None

    def _parse(self, worker: _Worker, content: bytes, suffix: str, name: str) -> ParsedDocument:
        self._worker = None
        try:
            answer, text = worker.ask(content, suffix)
        except TimeoutError as error:
            worker.end()
            message = f"parsing it takes more than {self._limits.time_s:g} s"
            raise DataError(message, where=name, fix="raise source.limits.time_s, or leave the file out") from error
        except BaseException:  # an interrupt between question and answer leaves the process of no use, too
            worker.end()
            raise
        self._worker = worker
        if "missing_extra" in answer:
            raise UsageError(str(answer["missing_extra"]), fix=answer.get("fix"))
        if "error" in answer:
            raise DataError(str(answer["error"]), where=name, fix=answer.get("fix"))
        return _document(answer, text)


class _Worker:
    """The process and the socket to it."""

    def __init__(self, limits: ParseLimits) -> None:
        self._limits = limits
        ours, theirs = socket.socketpair()
        module = "genai.data.documents.worker"
        with theirs, tempfile.TemporaryFile() as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(limits.memory_bytes), str(limits.time_s)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=_environment(),
                start_new_session=True,
            )
            theirs.close()  # so that ours knows when the process ends
            self._connection = ours
            # so that a parser that nobody closes leaves no process behind
            self.end = weakref.finalize(self, _end, self._process, ours)
            try:
                receive(ours, max_bytes=1024, deadline=time.monotonic() + _STARTS_WITHIN_S)
            except (BrokenFrameError, TimeoutError) as error:
                self.end()
                reason = f"{_death(self._process)} {_last_line(errors)}".strip()
                raise GenaiError(f"the process that parses documents did not start: {reason}") from error

    def ask(self, content: bytes, suffix: str) -> tuple[dict[str, Any], bytes]:
        """What the process answers for one file.

        Raises:
            TimeoutError: it takes too long.
            _WorkerLostError: it is lost.
        """
        deadline = time.monotonic() + self._limits.time_s
        try:
            send(self._connection, {"suffix": suffix}, content, deadline=deadline)
            answer, text = receive(self._connection, max_bytes=self._limits.memory_bytes, deadline=deadline)
        except BrokenFrameError as error:
            self.end()
            if self._process.returncode == errno.ENOMEM:
                memory = f"{self._limits.memory_bytes >> 20} MiB"
                raise _WorkerLostError(f"parsing it needs more than {memory} of memory") from error
            raise _WorkerLostError(f"the parser crashed on this file: {_death(self._process)}") from error
        return answer, text


def _document(answer: dict[str, Any], text: bytes) -> ParsedDocument:
    sections = tuple(Section(start=start, level=level, title=title) for start, level, title in answer["sections"])
    return ParsedDocument(text=text.decode(), page_starts=tuple(answer["page_starts"]), sections=sections)


def _end(process: subprocess.Popen[bytes], connection: socket.socket) -> None:
    connection.close()
    try:  # without a socket it ends by itself, and its exit code says more than that of a killed one
        process.wait(timeout=0.05 if process.poll() is None else 0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=_ENDS_WITHIN_S)


def _death(process: subprocess.Popen[bytes]) -> str:
    code = process.wait(timeout=_ENDS_WITHIN_S)
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _last_line(file: IO[bytes]) -> str:
    file.seek(0)
    lines = file.read().decode(errors="replace").strip().splitlines()
    return f"({lines[-1]})" if lines else ""


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    return kept | {"PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in sys.path), "PYTHONUTF8": "1"}
