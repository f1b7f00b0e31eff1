"""Whether the server lives and is ready, and what Prometheus is told; answered without a key."""

from __future__ import annotations

import msgspec

from genai.models.generation import ModelState
from genai.serving.exchange import Request, Response, Route
from genai.serving.metrics import CONTENT_TYPE


class Health(msgspec.Struct):
    """The process answers."""

    status: str


class Readiness(msgspec.Struct):
    """Whether requests can be answered."""

    status: str
    """ready or starting"""
    models: dict[str, ModelState]


async def health(request: Request) -> Response:
    """200 as long as the process answers at all."""
    return Response(body=msgspec.json.encode(Health(status="ok")))


async def readiness(request: Request) -> Response:
    """200 once everything is there that is to be there from the start, else 503."""
    engine = request.services.engine
    models = {name: card.state for name, card in engine.cards.items()}
    if engine.is_ready:
        return Response(body=msgspec.json.encode(Readiness(status="ready", models=models)))
    body = msgspec.json.encode(Readiness(status="starting", models=models))
    return Response(body=body, status=503, headers=[(b"retry-after", b"1")])


async def metrics(request: Request) -> Response:
    """Numbers for Prometheus, of all processes of the server."""
    return Response(body=await request.services.metrics.render(), content_type=CONTENT_TYPE)


ROUTES = (
    Route(
        method="GET",
        path="/healthz",
        handler=health,
        summary="Whether the process lives",
        response_type=Health,
        is_open=True,
    ),
    Route(
        method="GET",
        path="/readyz",
        handler=readiness,
        summary="Whether requests can be answered",
        response_type=Readiness,
        is_open=True,
    ),
    Route(method="GET", path="/metrics", handler=metrics, summary="Numbers for Prometheus", is_open=True),
)
