"""Running an application: uvicorn with our protocol, and how it begins and ends."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import resource
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import uvicorn

from genai.log import get_logger
from genai.serving.protocol import Connections, HttpProtocol

if TYPE_CHECKING:
    from genai.config.serve import LimitsConfig

_LOGGER = get_logger(__name__)
_BACKLOG = 2048
_OTHER_FILES = 128
_LAST_WORDS_S = 1.0


def serve(
    app: Any,
    sockets: Sequence[socket.socket],
    *,
    limits: LimitsConfig,
    on_start: Callable[[], Awaitable[None]] | None = None,
    on_ready: Callable[[], None] | None = None,
    on_stop: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Answer requests until SIGTERM or SIGINT, in a process that does nothing else; see `HttpServer`."""

    def ready() -> None:
        # What is there now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        if on_ready is not None:
            on_ready()

    HttpServer(app, sockets, limits=limits, on_start=on_start, on_ready=ready, on_stop=on_stop).run()


class HttpServer(uvicorn.Server):
    """A server that stops in good order: it takes no more connections, finishes what is under way within
    `drain_timeout_s`, then cancels the rest.

    Args:
        app: ASGI application.
        sockets: bound; they are closed when the server stops.
        limits: of connections; read once.
        on_start: awaited on the server's event loop before the first connection is taken.
        on_ready: called on it once connections are taken.
        on_stop: awaited on it after the last answer.
    """

    def __init__(
        self,
        app: Any,
        sockets: Sequence[socket.socket],
        *,
        limits: LimitsConfig,
        on_start: Callable[[], Awaitable[None]] | None = None,
        on_ready: Callable[[], None] | None = None,
        on_stop: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        connections = Connections(limits)
        protocol: Any = functools.partial(HttpProtocol, connections=connections)
        config = uvicorn.Config(
            app,
            interface="asgi3",
            loop="uvloop",
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
        )
        super().__init__(config)
        self.connections = connections
        self._sockets = list(sockets)
        self._drain_timeout_s = limits.drain_timeout_s
        self._on_start = on_start
        self._on_ready = on_ready
        self._on_stop = on_stop
        _allow_files(limits.max_connections + _OTHER_FILES)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until it is told to stop."""
        super().run(self._sockets if sockets is None else sockets)

    def stop(self) -> None:
        """Begin to stop. Any thread."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        if self._on_start is not None:
            await self._on_start()
        await super().startup(sockets)
        # Headers of the first answers are made by the first tick.
        await self.on_tick(0)
        if self._on_ready is not None:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in list(self.connections.open):
            connection.shutdown()
        await self._drain()
        if self._on_stop is not None:
            await self._on_stop()

    async def _drain(self) -> None:
        tasks = self.server_state.tasks
        if tasks:
            _LOGGER.info("%d requests are under way; they may take another %g s", len(tasks), self._drain_timeout_s)
            await asyncio.wait(tasks, timeout=self._drain_timeout_s)
        if tasks:
            _LOGGER.warning("%d requests are cut off", len(tasks))
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_LAST_WORDS_S)
        await self._let_them_read()

    async def _let_them_read(self) -> None:
        """Give the last answers a moment to be read."""
        deadline = asyncio.get_running_loop().time() + _LAST_WORDS_S
        while self.connections.open and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self.connections.open):
            connection.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT stop the server, a second one at once. Unlike uvicorn's they are not raised again: whoever
        called decides how the process ends.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: object) -> None:
        if self.should_exit:
            for task in list(self.server_state.tasks):
                task.get_loop().call_soon_threadsafe(task.cancel)
        self.should_exit = True


def _allow_files(wanted: int) -> None:
    """Raise the process's limit of open files, so that connections do not run into it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        _LOGGER.warning("only %d files may be open (ulimit -n), less than limits.max_connections needs", hard)
        wanted = hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
