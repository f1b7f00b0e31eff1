"""The description of the API (OpenAPI 3.1), made of the routes themselves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import msgspec

from genai.serving.exchange import Request, Response, Route
from genai.serving.openapi import describe


def route_for(routes: Sequence[Route]) -> Route:
    """The operation that tells of the others and of itself."""

    @cache
    def document() -> bytes:
        return msgspec.json.encode(describe((*routes, route)))

    async def openapi(request: Request) -> Response:
        return Response(body=document())

    route = Route(
        method="GET", path="/openapi.json", handler=openapi, summary="This description of the API", is_open=True
    )
    return route
