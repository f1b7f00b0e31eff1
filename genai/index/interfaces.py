"""What an index asks of an encoder, a source and an engine, and the values that pass between them.

Shapes: `n` texts or queries, `dim` numbers a vector; vectors are float32 and, unless the config says otherwise, of
length 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from genai.config.index import ColumnType
from genai.index.filters import Filter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]
else:
    Vectors = Any  # a sync that finds nothing to do need not load numpy
"""(n, dim) or (dim,)"""
Metadata = Mapping[str, Any]
"""Column -> str, int, float, bool or list of str; datetimes as seconds since 1970. Columns that are null are absent."""

# --- encoders ---------------------------------------------------------------------------------------------------------


class Encoder(Protocol):
    """Turns texts into vectors. Making one is cheap: weights are loaded by the first text."""

    @property
    def fingerprint(self) -> str:
        """Changes when the vectors would: model, revision, prompts, pooling, normalisation, dimension, truncation."""

    @property
    def dimension(self) -> int:
        """Numbers a vector."""

    @property
    def max_tokens(self) -> int:
        """Longer texts are cut."""

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """(n, dim)"""

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """(n, dim)"""

    def token_offsets(self, text: str) -> list[tuple[int, int]]:
        """Start and end, in characters, of every token of the whole text, special tokens and prompts left out."""


class Reranker(Protocol):
    """Scores texts for a query, higher is better."""

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """One number a text."""


# --- sources ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a document with a heading of its own."""

    start: int
    """First character of it in the text, the heading itself among it."""
    level: int
    """1 is the highest."""
    title: str
    """The heading."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """What one row or file says."""

    key: str
    """Names it for ever: the primary key as text, or the path below the source's folder."""
    text: str
    """What is cut and embedded; character offsets count in it."""
    metadata: Metadata = field(default_factory=dict)
    """The declared columns."""
    tenant: str | None = None
    """Whom it belongs to."""
    source: str = ""
    """Where it stands, for people: file or table and key."""
    page_starts: tuple[int, ...] = ()
    """First character of each page, the first page at 0; empty where there are none."""
    sections: tuple[Section, ...] = ()
    """In their order."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A document that is there, or is no more."""

    key: str
    kind: Literal["upsert", "delete"]
    version: str = ""
    """Of an upsert: changes whenever the document may have (a hash of the row, an etag, a checksum)."""
    load: Callable[[], Document] | None = None
    """Of an upsert: reads it, which may be expensive. Raises `DataError` when it cannot be used; the sync goes on."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What a source holds now, or what happened to it since a state."""

    state: Mapping[str, Any]
    """Plain values; where the source stands once all changes are taken (table id, version, ...)."""
    complete: bool
    """True: every document that is there comes once as an upsert, and what does not come is gone. False: the changes
    since the state that was given, in order, each key at most once."""
    rows: Iterator[Change]
    total: int | None = None
    """How many come, where known."""


class Source(Protocol):
    """What an index follows."""

    @property
    def uri(self) -> str:
        """As the config has it."""

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """The metadata columns with their types."""

    def position(self) -> Mapping[str, Any] | None:
        """Where the source stands, as cheaply as can be told (a table's id and version), to compare with the state of
        the last sync: equal means that nothing changed. None where only a full look can tell.
        """

    def changes(self, state: Mapping[str, Any] | None) -> Changes:
        """What to take over.

        Args:
            state: of the last sync that took everything; None for the first one.

        Raises:
            DataError, UsageError: the source cannot be read. A source that cannot be listed raises; it never looks
                empty.
        """


# --- engines ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SparseVector:
    """Words of a chunk or a query as numbers."""

    indices: NDArray[np.uint32]
    """(terms,), each once, ascending."""
    values: NDArray[np.float32]
    """(terms,); of a chunk the saturated term frequency, of a query how often the term stands in it. Engines multiply
    by the inverse document frequency ln(1 + (N - n + 0.5) / (n + 0.5)) over the points that they hold."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A chunk as an engine stores it."""

    id: str
    """A UUID."""
    dense: Vectors
    """(dim,)"""
    sparse: SparseVector
    payload: Metadata
    """Metadata columns of the document; `_tenant` where the index has tenants."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What all points of a generation have in common."""

    index: str
    """Name of the index."""
    generation: str
    """Name of the generation, safe as a part of a path."""
    dimension: int
    columns: Mapping[str, ColumnType]
    """Of the payload, without `_tenant`."""
    has_tenants: bool = False


@dataclass(frozen=True, kw_only=True)
class VectorQuery:
    """One search: by a dense vector or by a sparse one."""

    vector: Vectors | SparseVector
    limit: int
    filter: Filter | None = None
    """Checked against the columns; a tenant is part of it."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A point that was found."""

    id: str
    score: float
    """Dense: cosine; sparse: BM25. Higher is better; ties are broken by id."""


class Writer(Protocol):
    """Brings a generation up to a sequence. One writer at a time; readers go on with what was published before."""

    def upsert(self, points: Sequence[Point]) -> None:
        """Put points there, in place of those with the same ids."""

    def delete(self, ids: Sequence[str]) -> None:
        """Remove points; ids that are not there are no error."""

    def ids(self) -> Iterator[str]:
        """Of all points."""

    def publish(self) -> str:
        """Make everything durable and give the token of this state, which readers open from now on. The caller notes
        the token; a state whose token was never noted is rubbish that `sweep` removes.
        """

    def close(self) -> None:
        """Without publishing, what was written since may be lost."""


class Reader(Protocol):
    """Searches one published state. Several processes may; a state stays as it is."""

    def search(self, queries: Sequence[VectorQuery]) -> list[list[Hit]]:
        """The best points for each query, best first."""

    def count(self, filter: Filter | None = None) -> int:
        """How many points pass."""

    def close(self) -> None:
        """Let go of it, so that `sweep` may remove it."""


class Engine(Protocol):
    """Stores the points of generations."""

    def writer(self, spec: Spec, token: str | None) -> Writer:
        """Go on from a published state; None begins an empty one, and what was there of that generation goes."""

    def reader(self, spec: Spec, token: str) -> Reader:
        """Open a published state.

        Raises:
            DataError: it is not there (any more) or damaged.
        """

    def sweep(self, tokens: Mapping[str, str | None]) -> None:
        """Remove all states of this index but those that are named, and those that a reader has open.

        Args:
            tokens: generation -> the token that it still needs.
        """


@runtime_checkable
class NamedByAlias(Protocol):
    """An engine that other programs ask as well, by a name that leads to what answers queries now."""

    def make_live(self, spec: Spec, token: str) -> None:
        """Let the name lead to this state, at once."""
