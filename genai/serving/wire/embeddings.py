"""/v1/embeddings on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

EncodingFormat = Literal["float", "base64"]


class EmbeddingsRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """Texts of which vectors are wanted."""

    model: str
    input: str | list[str | int | list[int]]
    """A text or several; tokens are refused."""
    encoding_format: EncodingFormat | None = None
    """float, the default, or base64 of float32 numbers, little endian."""
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    """Keep only so many of the first numbers of every vector, scaled to length 1 again where the encoder scales."""
    input_type: Literal["query", "document"] | None = None
    """Which of the encoder's prompts is put before each text; by default what the server's configuration says."""
    truncate: bool | None = None
    """Cut a text that is longer than the encoder reads; by default it is refused."""
    user: str | None = None
    """Ignored."""


class EmbeddingBody(Struct, kw_only=True):
    """The vector of one text."""

    object: Literal["embedding"] = "embedding"
    index: int
    """Of the text in the request."""
    embedding: list[float] | str


class EmbeddingsUsage(Struct, kw_only=True):
    """What the vectors took."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(Struct, kw_only=True):
    """One vector a text, in their order."""

    object: Literal["list"] = "list"
    model: str
    data: list[EmbeddingBody]
    usage: EmbeddingsUsage
