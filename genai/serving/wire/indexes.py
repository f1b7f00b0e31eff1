"""/v1/indexes on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct


class QueryRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """A question to an index: a text, a vector of its encoder, or both. What is left out is as the index says."""

    query: str | None = None
    vector: list[float] | str | None = None
    """Numbers, or base64 of float32 numbers, little endian."""
    k: Annotated[int, Meta(ge=1)] | None = None
    """Results, at most."""
    mode: Literal["dense", "bm25", "hybrid"] | None = None
    """By vectors, by words, or both."""
    filter: str | dict[str, Any] | None = None
    """What the columns must be, e.g. "topic = floors and year >= 2020" or {"topic": "floors", "year": {">=": 2020}}."""
    tenant: str | None = None
    """Whose chunks; has to be named where the index has tenants."""
    columns: list[str] | None = None
    """Metadata to tell; by default all."""
    score_threshold: float | None = None
    """Lowest score, before any reranking."""
    rerank: bool | None = None
    """Whether the index's reranker puts the results in order; by default it does where there is one."""


class Found(Struct, kw_only=True):
    """A chunk that was found."""

    rank: int
    score: float
    id: str
    """Of the chunk."""
    key: str
    """Of its document."""
    text: str
    source: str
    """Where the document stands, for people."""
    start: int
    """First character in the document."""
    end: int
    """First character after it."""
    page: int | None
    heading: str | None
    metadata: dict[str, Any]


class QueryResponse(Struct, kw_only=True):
    """The best chunks, best first."""

    object: Literal["list"] = "list"
    index: str
    generation: str
    """Of the index, that answered."""
    results: list[Found]


class UpsertRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """Rows that are put there, in place of those with the same keys: all of them, or none."""

    rows: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    """Column -> value; which column is the key and which the text, the index says (id and text by default)."""


class DeleteRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """Documents that are removed; keys that are not there are passed over."""

    keys: Annotated[list[str | int], Meta(min_length=1)]


class ChangeResponse(Struct, kw_only=True):
    """What was done. Every query that is asked from now on sees it."""

    index: str
    generation: str
    """Of the index, that answers now."""
    documents: int
    """Put there, or removed; those that were as they should be already are not counted."""
    chunks: int
    """New ones, or removed ones."""
    embedded: int
    """Texts that the encoder was asked for."""


class IndexBody(Struct, kw_only=True):
    """An index that may be asked."""

    id: str
    object: Literal["index"] = "index"
    writable: bool
    """Whether upsert and delete are answered."""


class IndexesResponse(Struct, kw_only=True):
    """All indexes that the caller may ask."""

    object: Literal["list"] = "list"
    data: list[IndexBody]
