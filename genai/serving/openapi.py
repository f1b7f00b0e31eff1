"""OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.1) for routes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

import genai
from genai.serving.exchange import Route

_REFERENCE = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"\{(\w+)\}")
_JSON = "application/json"
_EXAMPLES: Mapping[str, Any] = {
    "/v1/chat/completions": {"model": "faq", "messages": [{"role": "user", "content": "When is the office open?"}]},
    "/v1/completions": {"model": "faq", "prompt": "The office is open", "max_tokens": 16},
    "/v1/embeddings": {"model": "encoder", "input": ["When is the office open?"]},
    "/v1/rerank": {"model": "reranker", "query": "opening hours", "documents": ["We open at 9.", "We sell tea."]},
    "/v1/tokenize": {"model": "faq", "prompt": "The office is open"},
    "/v1/detokenize": {"model": "faq", "tokens": [1, 2, 3]},
    "/v1/indexes/{name}/query": {"query": "opening hours", "k": 3},
    "/v1/indexes/{name}/upsert": {"rows": [{"id": "hours", "text": "We open at 9."}]},
    "/v1/indexes/{name}/delete": {"keys": ["hours"]},
}
"""Path -> a body that shows what it is for."""


class Error(msgspec.Struct):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    """The part of the request that is to blame."""
    code: str | None
    """For programs."""


class ErrorAnswer(msgspec.Struct):
    """Any answer of 400 and above."""

    error: Error


def describe(routes: Sequence[Route], *, title: str = "genai serve") -> dict[str, Any]:
    """The whole document.

    Args:
        routes: everything that is answered.
        title: of the document.
    """
    types = [kind for route in routes for kind in (route.request_type, route.response_type) if kind is not None]
    known = list(dict.fromkeys([ErrorAnswer, *types]))
    schemas, components = msgspec.json.schema_components(known, ref_template=_REFERENCE)
    by_type = dict(zip(known, schemas, strict=True))
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_type)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": genai.__version__},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
            },
        },
    }


def _operation(route: Route, schemas: Mapping[type, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": _name_of(route),
        "security": [] if route.is_open else [{"key": []}, {"api-key": []}, {}],
        "responses": {"200": _success(route, schemas), "default": _error(schemas)},
    }
    names = _PARAMETER.findall(route.path)
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    if route.request_type is not None:
        content: dict[str, Any] = {"schema": schemas[route.request_type]}
        if route.path in _EXAMPLES:
            content["example"] = _EXAMPLES[route.path]
        operation["requestBody"] = {"required": True, "content": {_JSON: content}}
    return operation


def _success(route: Route, schemas: Mapping[type, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if route.response_type is not None:
        content[_JSON] = {"schema": schemas[route.response_type]}
    elif not route.streams:
        content["text/plain" if route.path == "/metrics" else _JSON] = {"schema": {}}
    if route.streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    return {"description": "The answer", "content": content}


def _error(schemas: Mapping[type, Any]) -> dict[str, Any]:
    return {"description": "What went wrong", "content": {_JSON: {"schema": schemas[ErrorAnswer]}}}


def _name_of(route: Route) -> str:
    """Unique, and fit for the functions of generated clients."""
    words = _PARAMETER.sub(r"\1", route.path).strip("/").replace(".", "_").replace("/", "_").replace("-", "_")
    return f"{route.method.lower()}_{words}"
