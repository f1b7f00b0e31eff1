"""GET /v1/models and /v1/models/NAME (https://platform.openai.com/docs/api-reference/models)."""

from __future__ import annotations

import msgspec

from genai.serving.exchange import Request, Response, Route
from genai.serving.targets import Target, lookup, not_found, targets
from genai.serving.wire.models import ModelBody, ModelList


async def list_models(request: Request) -> Response:
    """What the caller may ask."""
    found = targets(request.services.engine.cards, request.caller)
    return Response(msgspec.json.encode(ModelList(data=[_body(target) for target in found])))


async def show_model(request: Request) -> Response:
    """One of them."""
    name = request.path_params["name"]
    target = lookup(request.services.engine.cards, request.caller, name)
    if target is None:
        raise not_found(request, name)
    return Response(msgspec.json.encode(_body(target)))


def _body(target: Target) -> ModelBody:
    card, adapter = target.card, target.adapter
    return ModelBody(
        id=target.name,
        created=adapter.created if adapter else card.created,
        root=card.name,
        parent=card.name if adapter else None,
        max_model_len=card.max_model_len or None,
        kind=card.kind,
        state=card.state,
    )


ROUTES = (
    Route(
        method="GET",
        path="/v1/models",
        handler=list_models,
        summary="What there is to ask",
        response_type=ModelList,
    ),
    Route(
        method="GET",
        path="/v1/models/{name}",
        handler=show_model,
        summary="One endpoint or adapter",
        response_type=ModelBody,
    ),
)
