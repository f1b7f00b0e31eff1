"""The engine's end of the socket: takes what workers ask to whoever computes, and answers back to who asked."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from genai.errors import DataError, GenaiError, UsageError
from genai.log import get_logger
from genai.models.generation import (
    EmbedRequest,
    EmbedResult,
    Event,
    GenerationRequest,
    ModelCard,
    RerankRequest,
    RerankResult,
)
from genai.serving.link import messages
from genai.serving.link.messages import Framed

_log = get_logger(__name__)


class Host(Protocol):
    """Whoever computes. None of these may block: they are called by the thread that reads the socket."""

    def generate(self, requests: Sequence[GenerationRequest]) -> None: ...

    def embed(self, request: EmbedRequest) -> None: ...

    def rerank(self, request: RerankRequest) -> None: ...

    def abort(self, ids: Collection[str]) -> None: ...

    async def ask(self, verb: str, values: dict[str, Any]) -> dict[str, Any]:
        """Raises `GenaiError` for what cannot be done."""


class EngineServer:
    """Serves a host on a Unix socket.

    Its `publish_*` methods may be called by any thread.

    Args:
        path: of the socket; made by `start`, in a folder that others cannot enter.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._host: Host | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._followers: set[_Connection] = set()
        self._owners: dict[str, _Connection] = {}
        self._waiting: dict[str, _Connection] = {}
        self._catalogue = messages.Catalogue([], False)
        self._asking: set[asyncio.Task[None]] = set()

    async def start(self, host: Host) -> None:
        """Take connections."""
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = await self._loop.create_unix_server(self._connected, str(self._path), backlog=128)
        finally:
            os.umask(before)

    def close(self) -> None:
        """Take no more connections and leave those there are."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.close()
        self._path.unlink(missing_ok=True)

    # --- what the engine's threads say ---

    def publish_events(self, events: list[Event]) -> None:
        """Send events to those who asked for the answers."""
        self._soon(self._send_events, events)

    def publish_embedded(self, result: EmbedResult) -> None:
        """Send vectors to whoever asked for them."""
        self._soon(self._send_result, result.id, messages.Embedded(result))

    def publish_reranked(self, result: RerankResult) -> None:
        """Send scores to whoever asked for them."""
        self._soon(self._send_result, result.id, messages.Reranked(result))

    def publish_catalogue(self, cards: Sequence[ModelCard], *, is_ready: bool) -> None:
        """Tell everybody what models there are."""
        self._soon(self._send_catalogue, messages.Catalogue(list(cards), is_ready))

    def publish_progress(self, text: str, share: float | None = None) -> None:
        """Tell those who follow what is being done."""
        self._soon(self._send_progress, messages.Progress(text, share))

    def _soon(self, function: Any, *arguments: Any) -> None:
        loop = self._loop
        assert loop is not None, "started before anything is published"
        try:
            loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            if not loop.is_closed():
                raise

    # --- on the loop ---

    def _send_events(self, events: list[Event]) -> None:
        owners = self._owners
        shares: dict[_Connection, list[Event]] = {}
        for event in events:
            to = owners.get(event.id)
            if to is None:
                continue
            shares.setdefault(to, []).append(event)
            if event.finish_reason is not None:
                del owners[event.id]
                to.ids.discard(event.id)
        for to, share in shares.items():
            to.send(messages.Events(share))

    def _send_result(self, request_id: str, message: messages.Message) -> None:
        to = self._waiting.pop(request_id, None)
        if to is not None:
            to.ids.discard(request_id)
            to.send(message)

    def _send_catalogue(self, catalogue: messages.Catalogue) -> None:
        self._catalogue = catalogue
        for connection in self._connections:
            connection.send(catalogue)

    def _send_progress(self, progress: messages.Progress) -> None:
        for connection in self._followers:
            connection.send(progress)

    def _connected(self) -> _Connection:
        return _Connection(self)

    def begin(self, connection: _Connection) -> None:
        """A connection was made."""
        self._connections.add(connection)
        connection.send(self._catalogue)

    def end(self, connection: _Connection) -> None:
        """A connection is over: nobody waits for its answers any more."""
        self._connections.discard(connection)
        self._followers.discard(connection)
        assert self._host is not None
        if connection.ids:
            self._host.abort(list(connection.ids))
        for request_id in connection.ids:
            self._owners.pop(request_id, None)
            self._waiting.pop(request_id, None)

    def take(self, connection: _Connection, content: memoryview) -> None:
        """A frame came."""
        host = self._host
        assert host is not None
        message = messages.to_engine(content)
        if type(message) is messages.Generate:
            for request in message.requests:
                self._own(self._owners, connection, request.id)
            host.generate(message.requests)
        elif isinstance(message, messages.Embed):
            self._own(self._waiting, connection, message.request.id)
            host.embed(message.request)
        elif isinstance(message, messages.Rerank):
            self._own(self._waiting, connection, message.request.id)
            host.rerank(message.request)
        elif isinstance(message, messages.Abort):
            self._abort(connection, message.ids)
        else:
            assert isinstance(message, messages.Ask)
            self._ask(connection, message)

    def _own(self, owners: dict[str, _Connection], connection: _Connection, request_id: str) -> None:
        connection.ids.add(request_id)
        owners[request_id] = connection

    def _abort(self, connection: _Connection, ids: list[str]) -> None:
        """An answer has a last event yet; of vectors and scores nothing comes any more."""
        assert self._host is not None
        self._host.abort([each for each in ids if each in connection.ids])
        for each in ids:
            if self._waiting.get(each) is connection:
                del self._waiting[each]
                connection.ids.discard(each)

    def _ask(self, connection: _Connection, message: messages.Ask) -> None:
        if message.verb == "follow":
            self._followers.add(connection)
            connection.send(messages.Told(message.id, {}))
            return
        task = asyncio.get_running_loop().create_task(self._tell(connection, message))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _tell(self, connection: _Connection, message: messages.Ask) -> None:
        assert self._host is not None
        try:
            told = messages.Told(message.id, await self._host.ask(message.verb, message.values))
        except GenaiError as error:
            is_usage = isinstance(error, UsageError | DataError)
            told = messages.Told(message.id, problem=error.message, where=error.where, fix=error.fix, is_usage=is_usage)
        except Exception as error:
            _log.exception("%s failed", message.verb)
            told = messages.Told(message.id, problem=f"{message.verb} failed: {type(error).__name__}: {error}")
        connection.send(told)


class _Connection(Framed):
    """A worker's, or the operator's."""

    def __init__(self, server: EngineServer) -> None:
        super().__init__(partial(server.take, self), partial(server.end, self))
        self._server = server
        self.ids: set[str] = set()
        """Of requests that came over it and are not over."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server.begin(self)

    def close(self) -> None:
        """Leave it."""
        if self.transport is not None:
            self.transport.close()
