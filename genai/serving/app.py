"""The ASGI application: checks, dispatch, answers (ASGI 3.0, https://asgi.readthedocs.io/en/latest/specs/www.html).

It is raw ASGI without a framework: what is done here is paid for with every request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from genai.log import get_logger
from genai.serving import sse
from genai.serving.access_log import AccessLog, Entry
from genai.serving.caller import ANYBODY, KeyRing
from genai.serving.errors import ApiError, body_of
from genai.serving.exchange import Notes, Request, Response, Route, Services, Streamed
from genai.serving.middleware import origins
from genai.serving.middleware.body import Bodies, ClientGoneError, check_whole
from genai.serving.middleware.concurrency import Concurrency
from genai.serving.middleware.deadlines import Deadlines, Leash
from genai.serving.middleware.hosts import Hosts
from genai.serving.middleware.keys import identify
from genai.serving.middleware.request_id import HEADER, RequestIds
from genai.serving.routing import Router

if TYPE_CHECKING:
    from genai.config.serve import ServeConfig

Message = Any
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CLIENT_GONE = 499
"""Status in the log of a request whose client left before its answer began (nginx's number)."""
UNKNOWN_PATH = "(unknown)"
"""In log and metrics, which paths that askers invent must not enter."""

_LOGGER = get_logger(__name__)
_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})
_SINGLE = (b"host", b"origin", b"authorization", b"api-key", b"content-length", b"content-type", b"content-encoding")


def create_app(
    services: Callable[[], Services],
    routes: Sequence[Route],
    *,
    config: ServeConfig,
    keys: KeyRing,
    access_log: AccessLog,
) -> App:
    """The application, to be called by an ASGI server.

    Args:
        services: asked once a request, so that a reload takes effect with the next one.
        routes: everything that is answered.
        config: of the server; hosts and origins are read now.
        keys: who may ask.
        access_log: where requests are told of.
    """
    return App(services, routes, config=config, keys=keys, access_log=access_log)


class Visit:
    """A request on its way through the server, and what is to be told of it."""

    __slots__ = (
        *("app", "arrival", "cors", "exchange", "headers", "id", "is_counted", "leash", "method", "notes"),
        *("num_bytes", "path", "receive", "scope", "send", "status", "watching"),
    )

    def __init__(self, scope: Mapping[str, Any], receive: Receive, send: Send, ids: RequestIds) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.arrival = time.monotonic()
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.id = ids.take(self.headers.get(HEADER))
        self.method: str = scope["method"]
        self.path = UNKNOWN_PATH
        self.app = ""
        self.notes = Notes()
        self.cors: origins.Headers = ()
        """What the answer says to a browser."""
        self.status = 0
        """Of the answer, once it began."""
        self.num_bytes = 0
        """Of the answer's body."""
        self.is_counted = False
        """Whether it takes one of the places for requests under way."""
        self.leash = Leash()
        self.exchange = scope.get("extensions", {}).get("genai.exchange")
        """Of our own HTTP protocol, which says at once when the client is gone."""
        self.watching: asyncio.Task[None] | None = None
        """Under another ASGI server: waits for the client to go."""

    async def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Send status and headers, those that every answer has included."""
        self.status = status
        told = [(HEADER, self.id.encode()), *headers, *self.cors]
        await self.send({"type": "http.response.start", "status": status, "headers": told})


class App:
    """The application; see `create_app`."""

    def __init__(
        self,
        services: Callable[[], Services],
        routes: Sequence[Route],
        *,
        config: ServeConfig,
        keys: KeyRing,
        access_log: AccessLog,
    ) -> None:
        self._services = services
        self._router = Router(routes)
        self._keys = keys
        self._log = access_log
        self._hosts = Hosts(config.listen.host, config.listen.allowed_hosts)
        self._origins = origins.Origins(config.listen.allowed_origins)
        self._ids = RequestIds()
        self._bodies = Bodies()
        self._concurrency = Concurrency()
        self._deadlines = Deadlines()

    @property
    def under_way(self) -> int:
        """Requests that are being answered."""
        return self._concurrency.under_way

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"only HTTP is spoken here, not {scope['type']}")
        visit = Visit(scope, receive, send, self._ids)
        services = self._services()
        services.metrics.http_begins()
        if visit.exchange is not None:
            visit.exchange.on_gone = visit.leash.client_gone
        try:
            await self._serve(visit, services)
        finally:
            self._end(visit, services)

    async def _serve(self, visit: Visit, services: Services) -> None:
        """Answer, whatever happens."""
        try:
            answer = await self._answer(visit, services)
            if isinstance(answer, Response):
                await _send_whole(visit, answer)
            else:
                await _send_stream(visit, answer.chunks)
        except ApiError as error:
            await _send_error(visit, error)
        except ClientGoneError:
            pass
        except asyncio.CancelledError:
            if visit.leash.reason is None:
                await _send_error(visit, ApiError("the server stops now; ask again", status=503, code="stopping"))
                raise
            _not_cancelled()
            if visit.leash.reason == "timeout":
                message = f"the answer was not ready within {services.limits.request_timeout_s:g} s"
                await _send_error(visit, ApiError(message, status=504, code="timeout"))
        except Exception:
            _LOGGER.exception("request %s failed: %s %s", visit.id, visit.method, visit.path)
            message = f"internal error; the server's log has more under the request id {visit.id}"
            await _send_error(visit, ApiError(message, status=500, code="internal_error"))

    async def _answer(self, visit: Visit, services: Services) -> Response | Streamed:
        """Check everything, then ask the API."""
        headers = visit.headers
        if len(headers) != len(visit.scope["headers"]):
            _check_single(visit.scope["headers"])
        self._hosts.check(headers.get(b"host"), visit.scope["http_version"])
        visit.cors = self._origins.check(headers.get(b"origin"))
        path = visit.scope["raw_path"].decode("latin-1")
        found = self._router.find(path)
        if found is None:
            raise ApiError(
                f"there is nothing at {path[:200]}; /openapi.json has all paths", status=404, code="not_found"
            )
        place, path_params = found
        visit.path = place.template
        route = place.routes.get(visit.method)
        if route is None:
            return _other_method(visit, place.allow)
        caller = ANYBODY if route.is_open else identify(self._keys, headers)
        visit.app = caller.app
        limits = services.limits
        body = b""
        if visit.method not in _WITHOUT_BODY:
            whole = visit.exchange.whole_body() if visit.exchange is not None else None
            if whole is not None:
                check_whole(whole, headers, limits)
            body = await self._bodies.read(visit.receive, headers, limits) if whole is None else whole
        if not route.is_open:
            self._concurrency.enter(limits.max_concurrent_requests)
            visit.is_counted = True
        deadline = visit.arrival + limits.request_timeout_s
        self._hold(visit, deadline)
        request = Request(
            id=visit.id,
            method=visit.method,
            path=path,
            path_params=path_params,
            headers=headers,
            body=body,
            caller=caller,
            services=services,
            arrival=visit.arrival,
            deadline=deadline,
            notes=visit.notes,
            gone=visit.leash.callbacks,
        )
        return await route.handler(request)

    def _hold(self, visit: Visit, deadline: float) -> None:
        """From now on the work can be ended by its time or its client."""
        visit.leash.deadline = deadline
        self._deadlines.watch(visit.leash)
        if visit.exchange is None:
            visit.watching = asyncio.create_task(_watch(visit.receive, visit.leash))

    def _end(self, visit: Visit, services: Services) -> None:
        """Give back what the request took, and tell of it."""
        visit.leash.let_go()
        self._deadlines.forget(visit.leash)
        self._ids.release(visit.id)
        if visit.watching is not None:
            visit.watching.cancel()
        if visit.is_counted:
            self._concurrency.leave()
        if not visit.status:
            visit.status = CLIENT_GONE
        duration_s = time.monotonic() - visit.arrival
        services.metrics.http_ends(visit.method, visit.path, visit.status, visit.app, visit.notes, duration_s)
        if self._log.is_on:
            self._log.write(_entry(visit, duration_s))


# --- answers ----------------------------------------------------------------------------------------------------------


async def _send_whole(visit: Visit, answer: Response) -> None:
    body = answer.body
    visit.num_bytes = len(body)
    length = b"%d" % len(body)
    headers = [(b"content-type", answer.content_type), (b"content-length", length), *answer.headers]
    if answer.status == 204:
        headers = answer.headers
    await visit.begin(answer.status, headers)
    await visit.send({"type": "http.response.body", "body": body})


async def _send_stream(visit: Visit, chunks: AsyncIterator[bytes]) -> None:
    """Send events as they come. What fails before the first one is an answer of its own, with its status."""
    send = visit.send
    try:
        first = await anext(chunks, b"")
        await visit.begin(200, sse.HEADERS)
        visit.num_bytes = len(first)
        await send({"type": "http.response.body", "body": first, "more_body": True})
        async for chunk in chunks:
            visit.num_bytes += len(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()


async def _send_error(visit: Visit, error: ApiError) -> None:
    """As an answer, or as the last event of one that has begun."""
    visit.notes.error = error.code or error.type
    body = body_of(error)
    if not visit.status:
        return await _send_whole(visit, Response(body=body, status=error.status, headers=list(error.headers)))
    event = sse.data(body)
    visit.num_bytes += len(event)
    await visit.send({"type": "http.response.body", "body": event})


def _other_method(visit: Visit, allow: str) -> Response:
    """What OPTIONS is told, and methods that a path does not have."""
    if visit.method != "OPTIONS":
        message = f"{visit.path} takes {allow}, not {visit.method}"
        allowed = ((b"allow", allow.encode()),)
        raise ApiError(message, status=405, code="method_not_allowed", headers=allowed)
    headers: list[tuple[bytes, bytes]] = [(b"allow", allow.encode())]
    if visit.cors:
        headers += origins.preflight(allow, visit.headers)
    return Response(body=b"", status=204, headers=headers)


# --- parts ------------------------------------------------------------------------------------------------------------


def _check_single(headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Refuse a second one of the headers that decide something: others on the way may have gone by the first."""
    names = [name for name, _ in headers]
    for name in _SINGLE:
        if names.count(name) > 1:
            raise ApiError(f"the header {name.decode()} stands there twice", code="repeated_header")


def _not_cancelled() -> None:
    """Let the task go on after it was cancelled by ourselves."""
    task = asyncio.current_task()
    assert task is not None
    task.uncancel()


async def _watch(receive: Receive, leash: Leash) -> None:
    """Wait until the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    leash.client_gone()


def _entry(visit: Visit, duration_s: float) -> Entry:
    notes = visit.notes
    client = visit.scope.get("client")
    return Entry(
        time=datetime.now(UTC),
        id=visit.id,
        app=visit.app,
        method=visit.method,
        path=visit.path,
        status=visit.status,
        duration_s=duration_s,
        num_bytes=visit.num_bytes,
        client=client[0] if client else "",
        user_agent=visit.headers.get(b"user-agent", b"").decode("latin-1"),
        model=notes.model,
        prompt_tokens=notes.prompt_tokens,
        cached_tokens=notes.cached_tokens,
        completion_tokens=notes.completion_tokens,
        first_token_s=notes.first_token_s,
        finish_reasons=notes.finish_reasons,
        error=notes.error,
    )
