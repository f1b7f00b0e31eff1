"""What the server needs of others: engines that answer, and indexes; both come in as objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from genai.errors import GenaiError
from genai.models.generation import (
    EmbedRequest,
    EmbedResult,
    Event,
    GenerationRequest,
    ModelCard,
    RerankRequest,
    RerankResult,
)


class EventStream(Protocol):
    """The events of the answers to one HTTP request (one answer for each prompt and each of its `n`)."""

    async def next(self) -> list[Event]:
        """What came since, of any of the answers, at least one event; waits for it. Several events of one answer that
        came since the last call are one. Not to be called again once every answer had its `finish_reason`.
        """

    def abort(self) -> None:
        """End all answers that are under way; each still has its last event (`abort`). May be called at any time,
        also when all is over.
        """


class Engine(Protocol):
    """Everything that computes: language models, encoders, rerankers; in this process or another."""

    @property
    def cards(self) -> Mapping[str, ModelCard]:
        """What there is, by name of the endpoint; replaced as a whole when something changes."""

    @property
    def is_ready(self) -> bool:
        """Whether everything that is to be there from the start is there."""

    def generate(self, requests: Sequence[GenerationRequest]) -> EventStream:
        """Begin answers. Never raises for a request: what is wrong with one comes as its last event."""

    async def embed(self, request: EmbedRequest) -> EmbedResult:
        """Vectors, or a fault. Cancelling the task gives the request up."""

    async def rerank(self, request: RerankRequest) -> RerankResult:
        """Scores, or a fault. Cancelling the task gives the request up."""


# --- indexes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexQuery:
    """A question to an index; exactly one of text and vector, or both for `hybrid` with an own vector."""

    text: str | None = None
    vector: Sequence[float] | bytes | None = None
    """Numbers, or float32 little endian."""
    k: int | None = None
    mode: Literal["dense", "bm25", "hybrid"] | None = None
    filter: str | Mapping[str, Any] | None = None
    tenant: str | None = None
    columns: tuple[str, ...] | None = None
    score_threshold: float | None = None
    rerank: bool | None = None


class FoundChunk(Protocol):
    """One result: a dataclass of these fields, told as it is; see `genai.index.search.Result`."""

    @property
    def rank(self) -> int: ...
    @property
    def score(self) -> float: ...
    @property
    def id(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def page(self) -> int | None: ...
    @property
    def heading(self) -> str | None: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexAnswer:
    """Best first."""

    results: Sequence[FoundChunk]
    generation: str
    """Of the index, that answered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexChange:
    """What an upsert or delete did."""

    documents: int
    """Put there, or removed; those that were as they should be already are not counted."""
    chunks: int
    """New ones, or removed ones."""
    embedded: int
    """Texts that the encoder was asked for."""
    generation: str
    """Of the index, that answers now."""


class UnavailableError(GenaiError):
    """Something cannot be asked or changed at the moment (503); the message is for the one who asked.

    Args:
        message: without inner details.
        retry_after_s: when it may be worth asking again.
    """

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class IndexAccess(Protocol):
    """An index to ask and, where it is writable, to change.

    Errors are `GenaiError`s: `UsageError` for what the asker can mend (400), `UnavailableError` (503), others are told
    as 500 without inner details. `asyncio.CancelledError` gives up; a change that has begun is brought to its end.
    """

    name: str
    """Of the endpoint."""
    writable: bool
    """Whether it may be changed."""

    async def query(self, query: IndexQuery) -> IndexAnswer: ...

    async def upsert(self, rows: Sequence[Mapping[str, Any]]) -> IndexChange: ...

    async def delete(self, keys: Sequence[str]) -> IndexChange: ...

    def close(self) -> None: ...
