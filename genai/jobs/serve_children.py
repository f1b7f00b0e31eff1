"""The processes below a server: started, watched, started again when they fall, stopped.

A child's standard input stays open as long as its parent lives, and a child ends when it is closed: so none is left
behind, however the parent ends. Over it go orders, one JSON object a line; answers come back over standard output.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from genai.errors import ConfigError, CredentialsError, DataError, GenaiError, Problem, UsageError
from genai.jobs.serve_folder import ServerFolder
from genai.log import get_logger

_TUNABLES = "GLIBC_TUNABLES"
_MAX_FALLS = 5
_FALLS_WITHIN_S = 60.0
_FIRST_PAUSE_S = 0.2
_LONGEST_LINE_BYTES = 1 << 24
_ERRORS: dict[str, type[GenaiError]] = {
    each.code: each for each in (GenaiError, UsageError, DataError, CredentialsError)
}
_log = get_logger(__name__)


class Child:
    """A process of this Python.

    Args:
        name: for messages.
        module: of `genai.jobs`.
        words: of its command line.
        folder: of the server.
        pass_fds: descriptors that it inherits.
        environment: beside this process's own.
    """

    def __init__(
        self,
        name: str,
        module: str,
        words: Sequence[str],
        folder: ServerFolder,
        *,
        pass_fds: Sequence[int] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.name = name
        self._command = [sys.executable, "-m", f"genai.jobs.{module}", str(folder.path), *words]
        self._environment = {
            **os.environ,
            "PROMETHEUS_MULTIPROC_DIR": str(folder.metrics),
            "TOKENIZERS_PARALLELISM": "false",  # requests are what runs side by side
            **environment,
        }
        self._metrics = folder.metrics
        self._pass_fds = tuple(pass_fds)
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._falls: list[float] = []
        self._failure: GenaiError | None = None
        self._is_stopping = False
        self.num_restarts = 0

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start the process."""
        self._failure = None
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE_BYTES,
            env=self._environment,
            pass_fds=self._pass_fds,
            start_new_session=True,  # Ctrl-C in a terminal is for the parent alone
        )
        self._reading = asyncio.create_task(self._read(self._process))

    async def watch(self) -> None:
        """Start the process again whenever it falls; ends only by an error.

        Raises:
            GenaiError: it says from the beginning that it cannot work, or falls again and again.
        """
        while True:
            assert self._process is not None and self._reading is not None
            code = await self._process.wait()
            await self._reading
            self._forget(self._process.pid)
            if self._is_stopping:
                await asyncio.Event().wait()
            # What it could do once it may do again: another program took the memory for a moment, say.
            if self._failure is not None and not self.num_restarts:
                raise self._failure
            now = time.monotonic()
            self._falls = [at for at in self._falls if now - at < _FALLS_WITHIN_S] + [now]
            if len(self._falls) >= _MAX_FALLS:
                told = f"{self.name} fell {len(self._falls)} times within a minute, last {_ended(code)}"
                raise self._failure or GenaiError(told)
            _log.error("%s %s; it is started again", self.name, self._failure or _ended(code))
            await asyncio.sleep(_FIRST_PAUSE_S * 2 ** (len(self._falls) - 1))
            self.num_restarts += 1
            await self.start()
            await self.started_again()

    async def started_again(self) -> None:
        """Called after a fall."""

    def told(self, message: dict[str, Any]) -> None:
        """Called with each object that the process writes."""

    async def order(self, **message: Any) -> None:
        """Write an object to the process."""
        process = self._process
        if process is None or process.stdin is None:
            return  # it begins with what is in force
        try:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            return  # it has fallen, which `watch` tells

    async def stop(self, timeout_s: float) -> None:
        """Close its input, wait until it has ended, and end it after so long."""
        self._is_stopping = True
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            _log.warning("%s does not end; it is killed", self.name)
            self.kill()
            await process.wait()
        if self._reading is not None:
            await self._reading

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            message = _as_message(line)
            if message is None:  # of a library, or of a model's own Python
                _log.info("%s: %s", self.name, line.decode(errors="replace").rstrip())
            elif "failed" in message:
                self._failure = _as_error(message["failed"])
            else:
                self.told(message)

    def _forget(self, pid: int) -> None:
        """Its gauges are not to be counted for ever."""
        from genai.serving.metrics import forget_process

        forget_process(pid, self._metrics)


class EngineChild(Child):
    """The process that has the models.

    Args:
        folder: of the server.
        flags: of its command line.
        on_start: awaited in the background after it was started again.
    """

    def __init__(self, folder: ServerFolder, flags: Sequence[str], on_start: Callable[[], Awaitable[None]]) -> None:
        super().__init__("the engine", "serve_engine", flags, folder, environment=_large_pages())
        self._on_start = on_start
        self._starting: asyncio.Task[None] | None = None

    async def started_again(self) -> None:
        async def bring_back() -> None:
            await self._on_start()

        self._starting = asyncio.create_task(bring_back())


class WorkerChild(Child):
    """A process that answers HTTP.

    Args:
        folder: of the server.
        flags: of its command line.
        number: 0 for the first.
        public: the socket that all workers listen on.
    """

    def __init__(self, folder: ServerFolder, flags: Sequence[str], number: int, public: socket.socket) -> None:
        words = [str(public.fileno()), *flags]
        super().__init__(f"HTTP worker {number}", "serve_worker", words, folder, pass_fds=[public.fileno()])
        self._is_ready = asyncio.Event()
        self._reloaded: asyncio.Future[str | None] | None = None

    async def until_ready(self) -> None:
        """Wait until it takes requests and knows what the engine has."""
        await self._is_ready.wait()

    async def reload(self) -> str | None:
        """Let it take over the job file in force; what is wrong, or None."""
        self._reloaded = asyncio.get_running_loop().create_future()
        await self.order(do="reload")
        return await self._reloaded

    def reopen_log(self) -> None:
        """Let it open the access log anew (after it was rotated)."""
        self._ordering = asyncio.create_task(self.order(do="reopen_log"))

    def told(self, message: dict[str, Any]) -> None:
        if "ready" in message:
            self._is_ready.set()
        elif "reloaded" in message and self._reloaded is not None and not self._reloaded.done():
            self._reloaded.set_result(message["reloaded"])

    async def started_again(self) -> None:
        if self._reloaded is not None and not self._reloaded.done():
            self._reloaded.set_result(None)  # it has started with the job file in force


def _as_message(line: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def _large_pages() -> Mapping[str, str]:
    """Lets glibc ask for large pages, by which weights and cache are read some per cent quicker; an operator's own
    settings of it are left alone.

    Source:
        the GNU C library's manual, "Memory Allocation Tunables".
    """
    return {} if _TUNABLES in os.environ else {_TUNABLES: "glibc.malloc.hugetlb=1"}


def failure(error: GenaiError) -> dict[str, Any]:
    """What a child that cannot work writes before it ends."""
    problems = [[problem.message, problem.where, problem.fix] for problem in error.problems]
    return {"failed": {"code": error.code, "problems": problems}}


def _as_error(told: dict[str, Any]) -> GenaiError:
    problems = [Problem(message=message, where=where, fix=fix) for message, where, fix in told["problems"]]
    if told["code"] == ConfigError.code:
        return ConfigError(problems)
    error = _ERRORS.get(told["code"], GenaiError)(problems[0].message, where=problems[0].where, fix=problems[0].fix)
    error.problems = tuple(problems)
    return error


def _ended(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        hint = " (out of memory?)" if -code == signal.SIGKILL else ""
        return f"was ended by {name}{hint}"
    return f"ended with exit code {code}"
