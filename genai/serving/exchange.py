"""A request and its answer, as the APIs see them.

An API is a coroutine `(Request) -> Response | Streamed`. What it raises as `ApiError` becomes an answer in OpenAI's
form; anything else is a fault of ours: 500 with the request's id, the traceback in the log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genai.config.serve import LimitsConfig
    from genai.serving.interfaces import Engine, IndexAccess
    from genai.serving.metrics import Metrics
    from genai.serving.prompting import Prompters


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    app: str
    """Name of the app whose key came with the request; "" on a server without apps."""
    routes: frozenset[str] | None = None
    """Endpoints and adapters it may ask; None: all."""

    def may_ask(self, name: str) -> bool:
        """Whether it may ask this endpoint or adapter."""
        return self.routes is None or name in self.routes


@dataclass(slots=True)
class Notes:
    """What the access log and the metrics tell of a request; APIs fill in what they know."""

    model: str = ""
    """As the request named it, once it is known to exist (metrics must not grow with what askers invent)."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    finish_reasons: list[str] = field(default_factory=list)
    first_token_s: float | None = None
    """From the request's arrival."""
    error: str = ""
    """Code of the error that was answered."""


@dataclass(frozen=True, slots=True)
class Services:
    """What a request is answered with; a reload puts another one in its place, requests keep theirs."""

    engine: Engine
    indexes: Mapping[str, IndexAccess]
    """By name of the endpoint."""
    limits: LimitsConfig
    metrics: Metrics
    prompters: Prompters
    """Tokenizers and chat templates of the text models."""


@dataclass(slots=True)
class Request:
    """What came in; its headers were checked, its body is whole."""

    id: str
    method: str
    path: str
    path_params: Mapping[str, str]
    """E.g. {"name": "faq"} for /v1/indexes/{name}/query."""
    headers: Mapping[bytes, bytes]
    """As they were sent, with lower-case names."""
    body: bytes
    caller: Caller
    services: Services
    arrival: float
    """time.monotonic()"""
    deadline: float
    """time.monotonic() after which nobody waits for the answer any more."""
    notes: Notes = field(default_factory=Notes)
    gone: list[Callable[[], None]] = field(default_factory=list)
    """Called, once each, when the client is gone, reads no more, or the deadline is over, e.g. `stream.abort`."""


@dataclass(slots=True)
class Response:
    """An answer in one piece."""

    body: bytes
    status: int = 200
    content_type: bytes = b"application/json"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


@dataclass(slots=True)
class Streamed:
    """An answer of server-sent events."""

    chunks: AsyncIterator[bytes]
    """Each is one or more whole events, `data: ...\\n\\n`; sent as they come. After the first one the status is sent,
    so what is wrong before must be raised before `Streamed` is made or by the first `__anext__`."""


Handler = Callable[[Request], Awaitable[Response | Streamed]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation of the API: what the dispatcher and /openapi.json are made of."""

    method: str
    path: str
    """With {name} for a part that varies."""
    handler: Handler
    summary: str
    request_type: type | None = None
    """The msgspec.Struct of the body."""
    response_type: type | None = None
    """The msgspec.Struct of the answer."""
    is_open: bool = False
    """Answered without a key (health, metrics)."""
    streams: bool = False
    """Whether `stream: true` gives server-sent events."""
