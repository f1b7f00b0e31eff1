"""The operator's API, on a port of its own and always with a token: status, reload, models, adapters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from genai.errors import GenaiError, UsageError
from genai.serving.errors import ApiError
from genai.serving.exchange import Handler, Request, Response, Route
from genai.serving.parsing import Body

_encode = msgspec.json.Encoder().encode


class Operator(Protocol):
    """Whoever runs the server. Its methods raise `GenaiError` for what cannot be done, and change nothing then."""

    async def status(self) -> dict[str, Any]: ...

    async def reload(self) -> dict[str, Any]: ...

    async def load(self, model: str) -> dict[str, Any]: ...

    async def unload(self, model: str) -> dict[str, Any]: ...

    async def add_adapter(self, model: str, name: str, reference: str) -> dict[str, Any]: ...

    async def remove_adapter(self, model: str, name: str) -> dict[str, Any]: ...


class ModelBody(msgspec.Struct, forbid_unknown_fields=True):
    """Names a model."""

    model: str
    """Of the endpoint."""


class AdapterBody(msgspec.Struct, forbid_unknown_fields=True):
    """An adapter that is to be loaded, or to replace the one of that name."""

    model: str
    """Of the endpoint."""
    name: str
    """What requests will give as `model`."""
    reference: str
    """runs:RUN or a folder."""


class AdapterNameBody(msgspec.Struct, forbid_unknown_fields=True):
    """Names an adapter."""

    model: str
    """Of the endpoint."""
    name: str
    """Of the adapter."""


def admin_routes(operator: Operator) -> tuple[Route, ...]:
    """What the operator's port answers."""
    model, adapter, adapter_name = Body(ModelBody), Body(AdapterBody), Body(AdapterNameBody)

    async def load(request: Request) -> dict[str, Any]:
        return await operator.load(model.read(request.body).model)

    async def unload(request: Request) -> dict[str, Any]:
        return await operator.unload(model.read(request.body).model)

    async def add_adapter(request: Request) -> dict[str, Any]:
        wanted = adapter.read(request.body)
        return await operator.add_adapter(wanted.model, wanted.name, wanted.reference)

    async def remove_adapter(request: Request) -> dict[str, Any]:
        wanted = adapter_name.read(request.body)
        return await operator.remove_adapter(wanted.model, wanted.name)

    async def status(_: Request) -> dict[str, Any]:
        return await operator.status()

    async def reload(_: Request) -> dict[str, Any]:
        return await operator.reload()

    return (
        _route("GET", "/admin/status", status, "What there is and how it does."),
        _route("POST", "/admin/reload", reload, "Take over the job file as it is now."),
        _route("POST", "/admin/models/load", load, "Load a model that is not.", ModelBody),
        _route("POST", "/admin/models/unload", unload, "Give a model's memory back until it is asked.", ModelBody),
        _route("POST", "/admin/adapters", add_adapter, "Load an adapter, or replace it.", AdapterBody),
        _route("POST", "/admin/adapters/remove", remove_adapter, "Let go of an adapter.", AdapterNameBody),
    )


def _route(
    method: str,
    path: str,
    work: Callable[[Request], Awaitable[dict[str, Any]]],
    summary: str,
    request_type: type | None = None,
) -> Route:
    return Route(method=method, path=path, handler=_told(work), summary=summary, request_type=request_type)


def _told(work: Callable[[Request], Awaitable[dict[str, Any]]]) -> Handler:
    """The operator may know everything: errors are told with place and fix."""

    async def handler(request: Request) -> Response:
        try:
            return Response(body=_encode(await work(request)))
        except GenaiError as error:
            lines = "; ".join(problem.line() for problem in error.problems)
            raise ApiError(lines, status=400 if isinstance(error, UsageError) else 500, code=error.code) from error

    return handler
