"""HTTP/1.1 over one connection (RFC 9112), for uvicorn: what reads requests and writes what the application sends.

uvicorn's own protocol sets no bounds to headers, waits for ever for a client that reads nothing, and tells an
application that its client is gone only when asked; ours differs in these. The parser (httptools) is the same.

A connection is in one of these states; a sweep over all of them, which is cheaper than timers, ends those whose time is
over:

    IDLE        no request                              idle_timeout_s (header_timeout_s before the first request)
    HEADERS     a request has begun to come             header_timeout_s
    ANSWERING   a request's headers are there           the application's own deadlines
    CLOSING     the last answer is on its way out       a few seconds

In any state, a client that takes nothing of what there is to read for slow_client_timeout_s is cut off.
"""

from __future__ import annotations

import asyncio
import http
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

import httptools

from genai.config.sizes import parse_size
from genai.log import get_logger
from genai.serving.errors import ApiError, body_of
from genai.serving.middleware.request_id import HEADER, new_id

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from genai.config.serve import LimitsConfig

State = Literal["IDLE", "HEADERS", "ANSWERING", "CLOSING"]
Message = Any
Headers = list[tuple[bytes, bytes]]

MAX_HEADER_BYTES = 65_536
"""Of a request's first line and headers."""

_LOGGER = get_logger(__name__)
_MAX_AHEAD_BYTES = 65_536
_MAX_HELD_BODY_BYTES = 65_536
_LINGER_S = 5.0
_SWEEPS_A_TIMEOUT = 8
_LONGEST_PAUSE_S = 1.0
_NO_BODY = frozenset({204, 304})
_MAX_HEADERS = 256
_ASGI = {"version": "3.0", "spec_version": "2.3"}
_FRAMING = 8  # of a chunked body, at most so many bytes for each one that it holds


def _status_line(status: int) -> bytes:
    phrase = http.HTTPStatus(status).phrase if status in set(http.HTTPStatus) else ""
    return b"HTTP/1.1 %d %s\r\n" % (status, phrase.encode())


_STATUS_LINES = {status: _status_line(status) for status in range(200, 600)}


# --- all connections --------------------------------------------------------------------------------------------------


class Connections:
    """What all connections of a server share: its limits, and the sweep that ends those whose time is over."""

    def __init__(self, limits: LimitsConfig) -> None:
        self.limits = limits
        self.open: set[HttpProtocol] = set()
        self._timer: asyncio.TimerHandle | None = None
        shortest = min(limits.header_timeout_s, limits.idle_timeout_s, limits.slow_client_timeout_s)
        self.max_request_bytes = MAX_HEADER_BYTES + _FRAMING * parse_size(limits.max_body)
        """Of a request as it comes over the wire."""
        self._pause_s = min(_LONGEST_PAUSE_S, shortest / _SWEEPS_A_TIMEOUT)
        self._date: Headers = []
        self._date_line = b""

    @property
    def is_full(self) -> bool:
        """Whether no further connection is taken."""
        return len(self.open) >= self.limits.max_connections

    def add(self, connection: HttpProtocol) -> None:
        """A connection was made."""
        self.open.add(connection)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._pause_s, self._sweep)

    def date_line(self, headers: Headers) -> bytes:
        """uvicorn's headers for every answer, a new list every second, as they are sent."""
        if headers is not self._date:
            self._date = headers
            self._date_line = b"".join([b"%s: %s\r\n" % header for header in headers])
        return self._date_line

    def _sweep(self) -> None:
        self._timer = None
        now = time.monotonic()
        for connection in list(self.open):
            connection.look(now)
        if self.open:
            self._timer = asyncio.get_running_loop().call_later(self._pause_s, self._sweep)


# --- a connection -----------------------------------------------------------------------------------------------------


class HttpProtocol(asyncio.Protocol):
    """One connection; uvicorn makes it.

    Args:
        config: of uvicorn.
        server_state: of uvicorn.
        app_state: of uvicorn; not used.
        connections: of the server.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        connections: Connections,
    ) -> None:
        self._app: Any = config.loaded_app
        self._server = server_state
        self._all = connections
        self.loop = _loop or asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._server_address: tuple[str, int | None] | None = None
        self._client_address: tuple[str, int] | None = None
        self._state: State = "IDLE"
        self._deadline = 0.0
        # reading
        self._url = b""
        self._headers: Headers = []
        self._takes_headers = False
        self._request_bytes = 0
        """Of what has come of the request that comes."""
        self._raw_bytes = 0
        """Of a body that the parser does not read: still to come."""
        self._piece_bytes = 0
        """Of what is parsed at the moment."""
        self._receiving: Exchange | None = None
        self._ahead = bytearray()
        self._is_reading = True
        self._must_close = False
        # answering
        self._answering: Exchange | None = None
        self._queue: deque[Exchange] = deque()
        # writing
        self.unread: asyncio.Future[None] | None = None
        """While the client does not read: done once it does."""
        self._written_bytes = 0
        self._taken_bytes = 0
        self._taken_at = 0.0

    # --- called by the event loop ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.BaseProtocol`."""
        self._transport = transport
        self._server_address = _address(transport.get_extra_info("sockname"))
        self._client_address = _address(transport.get_extra_info("peername"))
        now = time.monotonic()
        self._taken_at = now
        self._deadline = now + self._all.limits.header_timeout_s
        is_full = self._all.is_full
        self._all.add(self)
        self._server.connections.add(self)  # type: ignore[arg-type]
        if is_full:
            self._refuse("there are too many connections; try again", status=503, code="too_many_connections")
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        self._all.open.discard(self)
        self._server.connections.discard(self)
        self.resume_writing()
        self._queue.clear()
        exchanges = {self._answering, self._receiving}
        self._answering = self._receiving = None
        for exchange in exchanges:
            if exchange is not None:
                exchange.lose()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._state == "CLOSING":
            return
        if self._raw_bytes:
            return self._take_raw(data)
        if self._answering is not None and self._receiving is None:
            # The next requests wait until this one is answered.
            self._ahead += data
            if len(self._ahead) > _MAX_AHEAD_BYTES:
                self.pause_reading()
            return
        self._parse(data)

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        if self.unread is None:
            self.unread = self.loop.create_future()

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        unread, self.unread = self.unread, None
        if unread is not None and not unread.done():
            unread.set_result(None)

    # --- called by the parser ---

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url = b""
        self._headers = []
        self._takes_headers = True
        self._request_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the first line."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        if self._takes_headers:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The headers are whole: the application may begin."""
        parser = self._parser
        headers = self._headers
        self._takes_headers = False  # what comes behind the body (trailers) is none
        if len(headers) > _MAX_HEADERS or (self._piece_bytes > MAX_HEADER_BYTES and _size(headers) > MAX_HEADER_BYTES):
            raise _HeadersTooLargeError
        raw_path, query = _split(self._url)
        path = raw_path.decode("latin-1")
        version = parser.get_http_version()
        wants_upgrade = parser.should_upgrade()
        exchange = Exchange(
            self,
            keeps_alive=version == "1.1" and parser.should_keep_alive() and not wants_upgrade,
            expects_continue=(b"expect", b"100-continue") in headers,
        )
        exchange.scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": parser.get_method().decode("ascii"),
            "scheme": "http",
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": self._client_address,
            "server": self._server_address,
            "extensions": {"genai.exchange": exchange},
        }
        self._receiving = exchange
        if wants_upgrade:
            self._raw_bytes = _raw_length(headers)
        if self._answering is None:
            self._start(exchange)
        else:
            self._queue.append(exchange)

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self._receiving is not None:
            self._receiving.take(data)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._raw_bytes:
            return
        exchange, self._receiving = self._receiving, None
        if exchange is not None:
            exchange.end_of_body()

    # --- called by uvicorn ---

    def shutdown(self) -> None:
        """The server stops: what is being answered may end."""
        self._must_close = True
        if self._answering is None:
            self.close()

    # --- called by exchanges ---

    @property
    def is_stopping(self) -> bool:
        """Whether the connection is to be closed behind the answer that is under way."""
        return self._must_close

    @property
    def date_line(self) -> bytes:
        """Headers of every answer."""
        return self._all.date_line(self._server.default_headers)

    def write(self, data: bytes) -> None:
        """Send."""
        if self._transport is not None and not self._transport.is_closing():
            self._written_bytes += len(data)
            self._transport.write(data)

    def pause_reading(self) -> None:
        """Take nothing more for the moment."""
        if self._is_reading and self._transport is not None:
            self._is_reading = False
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on taking."""
        if not self._is_reading and self._transport is not None and not self._transport.is_closing():
            self._is_reading = True
            self._transport.resume_reading()

    def ended(self, task: asyncio.Task[None]) -> None:
        """The application is through with a request."""
        self._server.tasks.discard(task)

    def answered(self, *, keeps_alive: bool) -> None:
        """An answer is written: go on with the next request."""
        self._server.total_requests += 1
        self._answering = None
        if not keeps_alive or self._must_close:
            return self.close()
        if self._queue:
            return self._start(self._queue.popleft())
        self._state = "IDLE"
        self._deadline = time.monotonic() + self._all.limits.idle_timeout_s
        self._request_bytes = 0
        if self._ahead:
            data, self._ahead = bytes(self._ahead), bytearray()
            self._parse(data)
        if self._answering is None:
            self.resume_reading()

    def close(self) -> None:
        """Close, once everything is written; what still comes until the client has read it is thrown away.

        Closing right away would make the kernel reset the connection if the client is still sending, and the client
        would lose the answer.
        """
        transport = self._transport
        if transport is None or transport.is_closing() or self._state == "CLOSING":
            return
        is_sending = self._receiving is not None or self._state == "HEADERS"
        self._state = "CLOSING"
        self._deadline = time.monotonic() + _LINGER_S
        self._queue.clear()
        if is_sending and transport.can_write_eof():
            self.resume_reading()
            transport.write_eof()
        else:
            transport.close()

    def abort(self) -> None:
        """Cut the connection off."""
        if self._transport is not None:
            self._transport.abort()

    # --- called by the sweep ---

    def look(self, now: float) -> None:
        """End the connection if its time is over.

        Args:
            now: time.monotonic()
        """
        assert self._transport is not None
        limits = self._all.limits
        unread = self._transport.get_write_buffer_size()
        taken = self._written_bytes - unread
        if not unread or taken != self._taken_bytes:
            self._taken_bytes, self._taken_at = taken, now
        elif now - self._taken_at >= limits.slow_client_timeout_s:
            return self.abort()
        if self._state == "ANSWERING" or now < self._deadline:
            return
        if self._state == "HEADERS":
            message = f"the request's headers did not come within {limits.header_timeout_s:g} s"
            self._refuse(message, status=408, code="header_timeout")
        elif self._state == "IDLE":
            self.close()
        elif not unread or now >= self._deadline + limits.slow_client_timeout_s:
            self.abort()

    # --- parts ---

    def _parse(self, data: bytes) -> None:
        self._piece_bytes = len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # Not taken up: the request is answered as if it had not asked, and the connection closed behind it.
            return self._take_raw(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, _HeadersTooLargeError):
                return self._refuse_headers()
            return self._refuse("this is no HTTP request", status=400, code="bad_request")
        self._request_bytes += len(data)
        if self._answering is None:
            self._look_at_headers()
        elif self._receiving is not None and self._request_bytes > self._all.max_request_bytes:
            self._refuse("the request is too large", status=413, code="request_too_large")

    def _take_raw(self, data: bytes) -> None:
        """The body of a request that asked for another protocol, which the parser leaves to us."""
        if self._raw_bytes and self._receiving is not None:
            piece = data[: self._raw_bytes]
            self._raw_bytes -= len(piece)
            self._receiving.take(piece)
            if not self._raw_bytes:
                self.on_message_complete()

    def _look_at_headers(self) -> None:
        """A request has begun, and its headers are not whole."""
        if self._state == "IDLE":
            self._state = "HEADERS"
            self._deadline = time.monotonic() + self._all.limits.header_timeout_s
        if self._request_bytes > MAX_HEADER_BYTES:
            self._refuse_headers()

    def _refuse_headers(self) -> None:
        message = f"the request's headers are larger than {MAX_HEADER_BYTES:,} bytes"
        self._refuse(message, status=431, code="headers_too_large")

    def _start(self, exchange: Exchange) -> None:
        self._answering = exchange
        self._state = "ANSWERING"
        exchange.task = task = self.loop.create_task(exchange.run(self._app))
        self._server.tasks.add(task)

    def _refuse(self, message: str, *, status: int, code: str) -> None:
        """Answer what no application sees, and close."""
        broken = self._receiving
        if self._answering is not broken:
            # It came behind a request that is under way, whose answer is the last one.
            self._receiving, self._must_close = None, True
            return
        self._answering = self._receiving = None
        if broken is not None:
            broken.lose()
            if broken.has_begun:
                return self.abort()
        body = body_of(ApiError(message, status=status, code=code))
        headers = [
            (HEADER, new_id().encode()),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        self.write(_head(status, self.date_line, headers) + body)
        self._state = "HEADERS"
        self.close()


# --- a request and its answer -----------------------------------------------------------------------------------------


class Exchange:
    """A request and its answer, as ASGI has them; in the scope as extension `genai.exchange`.

    Args:
        connection: that it came over.
        keeps_alive: whether the connection can go on behind the answer.
        expects_continue: whether the client waits for a word before it sends the body.
    """

    __slots__ = (
        *("_connection", "_expects_continue", "_has_body", "_head", "_held_bytes", "_is_chunked", "_is_lost"),
        *("_is_over", "_is_told", "_keeps_alive", "_pieces", "_waiter"),
        *("has_begun", "is_whole", "on_gone", "scope", "task"),
    )

    def __init__(self, connection: HttpProtocol, *, keeps_alive: bool, expects_continue: bool) -> None:
        self._connection = connection
        self._keeps_alive = keeps_alive
        self._expects_continue = expects_continue
        self._pieces: list[bytes] = []
        self._held_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._is_told = False
        self._head = b""
        self._has_body = True
        self._is_chunked = False
        self._is_lost = False
        self._is_over = False
        self.scope: dict[str, Any] = {}
        self.task: asyncio.Task[None] | None = None
        self.is_whole = False
        """Whether all of the body has come."""
        self.has_begun = False
        """Whether some of the answer was sent."""
        self.on_gone: Callable[[], None] | None = None
        """Called once, at once, when the client is gone before the answer is whole."""

    async def run(self, app: Any) -> None:
        """Let the application answer."""
        try:
            await app(self.scope, self.receive, self.send)
        except Exception:
            _LOGGER.exception("the application failed")
        finally:
            self.on_gone = None
            if self.task is not None:
                self._connection.ended(self.task)
                self.task = None
            self.scope = {}  # which holds this exchange: without the circle both are gone at once
            if not self._is_over and not self._is_lost:
                self._connection.abort()

    # --- called by the connection ---

    def take(self, data: bytes) -> None:
        """A piece of the body."""
        self._pieces.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > _MAX_HELD_BODY_BYTES:
            self._connection.pause_reading()
        self._wake()

    def end_of_body(self) -> None:
        """The body is whole."""
        self.is_whole = True
        self._wake()

    def lose(self) -> None:
        """The client is gone, or not to be understood."""
        if self._is_over or self._is_lost:
            return
        self._is_lost = True
        self._wake()
        if self.on_gone is not None:
            self.on_gone()

    # --- called by the application ---

    async def receive(self) -> Message:
        """See ASGI."""
        if self._expects_continue and not self.has_begun:
            self._expects_continue = False
            self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (self._is_lost or self._is_over):
            if not self._is_told and (self._pieces or self.is_whole):
                return {"type": "http.request", "body": self._take(), "more_body": not self.is_whole}
            self._connection.resume_reading()
            self._waiter = self._connection.loop.create_future()
            await self._waiter
        return {"type": "http.disconnect"}

    def whole_body(self) -> bytes | None:
        """The body where all of it has come and nothing was received yet, which is quicker than `receive`."""
        return None if self._is_told or self._is_lost or not self.is_whole else self._take()

    async def send(self, message: Message) -> None:
        """See ASGI."""
        if self._is_lost:
            return
        if message["type"] == "http.response.start":
            self._begin(message["status"], message["headers"])
            return
        self._go_on(message.get("body", b""), is_last=not message.get("more_body"))
        connection = self._connection
        while connection.unread is not None and not self._is_over:
            await asyncio.shield(connection.unread)

    # --- parts ---

    def _take(self) -> bytes:
        """What has come of the body since the last time."""
        self._is_told = self.is_whole
        body, self._pieces, self._held_bytes = b"".join(self._pieces), [], 0
        return body

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _begin(self, status: int, headers: Headers) -> None:
        """Make the head; it is sent with the first piece of the body."""
        assert not self.has_begun, "an answer begins once"
        self.has_begun = True
        self._has_body = self.scope["method"] != "HEAD" and status not in _NO_BODY
        told = list(headers)
        if self._has_body and not _has_length(told):
            if self.scope["http_version"] == "1.1":
                self._is_chunked = True
                told.append((b"transfer-encoding", b"chunked"))
            else:
                self._keeps_alive = False
        if not self.is_whole or self._connection.is_stopping:
            self._keeps_alive = False
        if not self._keeps_alive:
            told.append((b"connection", b"close"))
        self._head = _head(status, self._connection.date_line, told)

    def _go_on(self, body: bytes, *, is_last: bool) -> None:
        assert self.has_begun and not self._is_over, "an answer goes on between its beginning and its end"
        head, self._head = self._head, b""
        if not self._has_body:
            body = b""
        elif self._is_chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"0\r\n\r\n" if is_last else b"")
        if head or body:
            self._connection.write(head + body)
        if is_last:
            self._is_over = True
            self.on_gone = None
            self._wake()
            self._connection.answered(keeps_alive=self._keeps_alive)


def _head(status: int, date_line: bytes, headers: Headers) -> bytes:
    """Status line and headers.

    Raises:
        ValueError: a header would break the line.
    """
    lines = b"\r\n".join([*map(b": ".join, headers), b""])
    if lines.count(b"\n") != len(headers):
        raise ValueError("a header holds a line break")
    return b"%b%b%b\r\n" % (_STATUS_LINES[status], date_line, lines)


def _split(url: bytes) -> tuple[bytes, bytes]:
    """Path and query."""
    if url.startswith(b"/") and b"?" not in url and b"#" not in url:
        return url, b""
    parsed = httptools.parse_url(url)
    return parsed.path or b"/", parsed.query or b""


def _has_length(headers: Headers) -> bool:
    return b"content-length" in [name for name, _ in headers]  # twice as quick as any()


def _raw_length(headers: Headers) -> int:
    """Bytes of the body of a request that asks for another protocol.

    Raises:
        ValueError: it is chunked, or no number says how long it is.
    """
    told = dict(headers)
    if b"transfer-encoding" in told:
        raise ValueError("a chunked body behind a wish for another protocol is not read")
    return int(told.get(b"content-length", b"0"))


def _size(headers: Headers) -> int:
    return sum(len(name) + len(value) for name, value in headers)


def _address(name: Any) -> tuple[str, int] | None:
    """Host and port; None for a unix socket."""
    return (name[0], name[1]) if isinstance(name, tuple) else None


class _HeadersTooLargeError(Exception):
    """Raised through the parser."""
