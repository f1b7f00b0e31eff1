"""/v1/models on the wire."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class ModelBody(Struct, kw_only=True):
    """An endpoint or an adapter that requests can name."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "genai"
    root: str
    """The endpoint itself; of an adapter: the endpoint whose weights it changes."""
    parent: str | None = None
    """Of an adapter: the endpoint."""
    max_model_len: int | None = None
    kind: Literal["text", "encoder", "reranker"]
    state: Literal["loading", "ready", "unloaded", "failed"]


class ModelList(Struct, kw_only=True):
    """What the caller may ask."""

    object: Literal["list"] = "list"
    data: list[ModelBody]
