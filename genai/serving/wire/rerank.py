"""/v1/rerank on the wire, as Jina's and Cohere's servers have it."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType


class RerankDocument(Struct, kw_only=True):
    """A text that may answer the query."""

    text: str


class RerankBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """A query, and texts of which it is asked how well they answer it."""

    model: str
    query: str
    documents: list[str | RerankDocument]
    """Each is cut where query and text together are longer than the model reads."""
    top_n: Annotated[int, Meta(ge=1)] | None = None
    """Tell of the best ones only; by default of all."""
    return_documents: bool | None = None
    """Tell the texts as well."""
    user: str | None = None
    """Ignored."""


class RerankedDocument(Struct, kw_only=True, omit_defaults=True):
    """How well one text answers the query."""

    index: int
    """Of the text in the request."""
    relevance_score: float
    """From 0 to 1."""
    document: RerankDocument | UnsetType = UNSET


class RerankUsage(Struct, kw_only=True):
    """What the scores took."""

    prompt_tokens: int
    total_tokens: int


class RerankResponse(Struct, kw_only=True):
    """The texts, best first."""

    id: str
    model: str
    results: list[RerankedDocument]
    usage: RerankUsage
