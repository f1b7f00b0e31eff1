"""The HTTP server under test: in a thread, on a real socket, with routes of the test's own; and a client that can
misbehave.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from genai.config.serve import LimitsConfig, ListenConfig, ServeConfig
from genai.models.generation import ModelCard
from genai.serving.access_log import AccessLog
from genai.serving.app import App, create_app
from genai.serving.caller import KeyRing
from genai.serving.errors import ApiError
from genai.serving.exchange import Caller, Request, Response, Route, Services, Streamed
from genai.serving.metrics import Metrics
from genai.serving.running import HttpServer

PATIENCE_S = 20.0


class NoEngine:
    """An engine that has a model but is asked nothing."""

    def __init__(self) -> None:
        self.is_ready = True
        card = ModelCard(name="faq", kind="text", state="ready", reference="x", folder="x", fingerprint="x", created=0)
        self.cards: Mapping[str, ModelCard] = {"faq": card}


@dataclass
class Seen:
    """What happened to requests at the routes below."""

    begun: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    requests: list[Request] = field(default_factory=list)


def routes(seen: Seen) -> tuple[Route, ...]:
    """POST /echo gives the body back; /events streams `{"count", "bytes"}`; /wait waits; /fail and /refuse do so."""

    async def echo(request: Request) -> Response:
        seen.requests.append(request)
        request.notes.model = "faq"
        request.notes.prompt_tokens = 3
        return Response(request.body)

    async def events(request: Request) -> Streamed:
        wanted = msgspec.json.decode(request.body)
        request.gone.append(seen.gone.set)
        request.notes.model = "faq"
        return Streamed(chunks(wanted.get("count", 3), wanted.get("bytes", 1), wanted.get("then")))

    async def chunks(count: int, size: int, then: str | None) -> AsyncIterator[bytes]:
        try:
            for number in range(count):
                yield b"data: %d%s\n\n" % (number, b"x" * size)
                seen.begun.set()
                await asyncio.sleep(0)
            if then == "refuse":
                raise ApiError("too late", status=429, code="late")
            if then == "fail":
                raise RuntimeError("secret inner detail")
            if then == "wait":
                await asyncio.sleep(PATIENCE_S)
            yield b"data: [DONE]\n\n"
        finally:
            seen.closed.set()

    async def wait(request: Request) -> Response:
        request.gone.append(seen.gone.set)
        seen.begun.set()
        try:
            while not seen.release.is_set():
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            seen.cancelled.set()
            raise
        return Response(b'{"waited":true}')

    async def fail(request: Request) -> Response:
        raise RuntimeError("secret inner detail")

    async def refuse(request: Request) -> Response:
        raise ApiError("not so", param="prompt", code="nope")

    async def item(request: Request) -> Response:
        return Response(json.dumps(dict(request.path_params)).encode())

    def route(method: str, path: str, handler: Any, **other: Any) -> Route:
        return Route(method=method, path=path, handler=handler, summary=path, **other)

    return (
        route("POST", "/echo", echo),
        route("POST", "/events", events, streams=True),
        route("POST", "/wait", wait),
        route("POST", "/fail", fail),
        route("POST", "/refuse", refuse),
        route("GET", "/items/{name}", item),
        route("GET", "/open", item, is_open=True),
    )


@dataclass
class Running:
    """A server that answers."""

    port: int
    app: App
    server: HttpServer
    seen: Seen
    metrics: Metrics
    log_path: Path | None
    log: AccessLog
    services: list[Services]
    """The last one answers."""

    def connect(self) -> Client:
        """A connection of its own."""
        return Client(self.port)

    def log_lines(self) -> list[dict[str, Any]]:
        """What the access log has."""
        assert self.log_path is not None
        self.log.flush()
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]


@contextmanager
def running(
    *,
    limits: LimitsConfig | None = None,
    listen: ListenConfig | None = None,
    keys: Mapping[str, Caller] | None = None,
    log_path: Path | None = None,
    more_routes: Sequence[Route] = (),
) -> Iterator[Running]:
    """A server in a thread, for as long as the block runs; whatever it leaves behind is an error."""
    seen = Seen()
    metrics = Metrics()
    config = ServeConfig(endpoints={}, limits=limits or LimitsConfig(), listen=listen or ListenConfig())
    engine: Any = NoEngine()
    prompters: Any = None
    services = [Services(engine=engine, indexes={}, limits=config.limits, metrics=metrics, prompters=prompters)]
    log = AccessLog(str(log_path) if log_path else "off")
    app = create_app(
        lambda: services[-1],
        (*routes(seen), *more_routes),
        config=config,
        keys=KeyRing(keys or {}),
        access_log=log,
    )
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    ready = threading.Event()
    server = HttpServer(app, [listener], limits=config.limits, on_ready=ready.set)
    thread = threading.Thread(target=server.run, name="http-server")
    thread.start()
    assert ready.wait(PATIENCE_S)
    try:
        yield Running(port, app, server, seen, metrics, log_path, log, services)
    finally:
        seen.release.set()
        server.stop()
        thread.join(PATIENCE_S)
        log.close()
    assert not thread.is_alive()
    assert app.under_way == 0
    assert not server.connections.open


@dataclass(frozen=True)
class Answer:
    """An answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]


class Client:
    """One connection, byte by byte."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self._unread = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """A whole request, and its answer."""
        self.send(request(self.port, method, path, body, **headers))
        return self.answer(has_body=method != "HEAD")

    def answer(self, *, has_body: bool = True) -> Answer:
        """The next answer."""
        head = self._until(b"\r\n\r\n").decode()
        first, *lines = head.rstrip("\r\n").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        answer = Answer(int(first.split()[1]), headers, b"")
        if not has_body or answer.status in (100, 204):
            return answer
        return replace(answer, body=self._body(headers))

    def rest(self) -> bytes:
        """Everything until the server closes."""
        pieces = [self._unread]
        self._unread = b""
        while piece := self.socket.recv(65536):
            pieces.append(piece)
        return b"".join(pieces)

    @property
    def is_closed(self) -> bool:
        """Waits for the server to say something; whether it closed."""
        try:
            self._unread += (piece := self.socket.recv(65536))
        except ConnectionResetError:
            return True
        return not piece

    def _body(self, headers: Mapping[str, str]) -> bytes:
        if "content-length" in headers:
            return self._take(int(headers["content-length"]))
        if headers.get("transfer-encoding") != "chunked":
            return self.rest()
        body = b""
        while size := int(self._until(b"\r\n"), 16):
            body += self._take(size)
            assert self._take(2) == b"\r\n"
        assert self._take(2) == b"\r\n"
        return body

    def _until(self, end: bytes) -> bytes:
        while end not in self._unread:
            self._more()
        return self._take(self._unread.index(end) + len(end))

    def _take(self, size: int) -> bytes:
        while len(self._unread) < size:
            self._more()
        taken, self._unread = self._unread[:size], self._unread[size:]
        return taken

    def _more(self) -> None:
        piece = self.socket.recv(65536)
        if not piece:
            raise ConnectionError(f"the server closed after {self._unread!r}")
        self._unread += piece


def request(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """A request as bytes; headers are given as content_type="..." and replace those that are sent anyway."""
    told = {"host": f"127.0.0.1:{port}"}
    if method not in ("GET", "HEAD", "OPTIONS"):
        told |= {"content-type": "application/json", "content-length": str(len(body))}
    told |= {re.sub("_", "-", name): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in told.items() if value)
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def wait_until(condition: Callable[[], bool]) -> None:
    """Until it holds."""
    waiting = threading.Event()
    for _ in range(int(PATIENCE_S / 0.01)):
        if condition():
            return
        waiting.wait(0.01)
    raise AssertionError("it never came true")
