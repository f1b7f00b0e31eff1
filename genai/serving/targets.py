"""Which model a request means: an endpoint by its name, or one of its adapters; never another one than was named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from genai.models.generation import AdapterCard, ModelCard
from genai.registry import suggest
from genai.serving.errors import ApiError

if TYPE_CHECKING:
    from genai.serving.exchange import Caller, Request

Kind = Literal["text", "encoder", "reranker"]

_CALLED = {"text": "a language model", "encoder": "an encoder", "reranker": "a reranker"}
_ASK = {"text": "/v1/chat/completions or /v1/completions", "encoder": "/v1/embeddings", "reranker": "/v1/rerank"}


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is answered by."""

    card: ModelCard
    adapter: AdapterCard | None = None

    @property
    def name(self) -> str:
        """As the request named it."""
        return self.adapter.name if self.adapter else self.card.name

    @property
    def fingerprint(self) -> str:
        """Changes with the weights."""
        own = f"fp_{_short(self.card.fingerprint)}"
        return f"{own}_{_short(self.adapter.fingerprint)}" if self.adapter else own


def find_target(request: Request, name: str, kind: Kind) -> Target:
    """What `name` means to the one who asks.

    Args:
        request: has the models and the caller.
        name: of an endpoint, or of an adapter of one (text only).
        kind: what the API is for.

    Raises:
        ApiError: 404 when there is no such model or the caller may not ask it, which are told alike; 400 for one of
            another kind; 503 when it failed or is not there yet.
    """
    target = lookup(request.services.engine.cards, request.caller, name)
    if target is None:
        if not request.services.engine.is_ready:
            raise _starting()
        raise not_found(request, name, kind)
    if target.card.kind != kind:
        other = target.card.kind
        raise ApiError(f"'{name}' is {_CALLED[other]}: ask {_ASK[other]}", param="model", code="model_kind")
    _check_state(target.card)
    return target


def lookup(cards: Mapping[str, ModelCard], caller: Caller, name: str) -> Target | None:
    """The endpoint or adapter called `name`, if the caller may ask it."""
    if not caller.may_ask(name):
        return None
    card = cards.get(name)
    if card is not None:
        return Target(card)
    return next(
        (Target(card, adapter) for card in cards.values() for adapter in card.adapters if adapter.name == name), None
    )


def targets(cards: Mapping[str, ModelCard], caller: Caller) -> Iterator[Target]:
    """All endpoints and adapters that the caller may ask."""
    for card in cards.values():
        if caller.may_ask(card.name):
            yield Target(card)
        for adapter in card.adapters:
            if adapter.name not in cards and caller.may_ask(adapter.name):
                yield Target(card, adapter)


def not_found(request: Request, name: str, kind: Kind | None = None) -> ApiError:
    """The answer to a name that means nothing to the caller; suggests only what the caller may ask."""
    found = targets(request.services.engine.cards, request.caller)
    known = [target.name for target in found if kind is None or target.card.kind == kind]
    near = suggest(name, known)
    hint = f"did you mean '{near}'?" if near else "GET /v1/models lists what there is"
    shown = name if len(name) <= 100 else name[:100] + "..."
    return ApiError(f"there is no model '{shown}' ({hint})", status=404, param="model", code="model_not_found")


def _starting() -> ApiError:
    """Which models there will be is not known yet."""
    headers = ((b"retry-after", b"1"),)
    return ApiError(
        "the engine is starting; ask again in a moment", status=503, code="model_not_ready", headers=headers
    )


def _short(fingerprint: str) -> str:
    return fingerprint.removeprefix("sha256:")[:12]


def _check_state(card: ModelCard) -> None:
    if card.state == "failed":
        raise ApiError(
            f"the model '{card.name}' could not be loaded: {card.error or 'see the log of the server'}",
            status=503,
            param="model",
            code="model_not_ready",
        )
    if card.kind == "text" and not (card.folder and card.max_model_len):
        raise ApiError(
            f"the model '{card.name}' is not there yet: it is {card.state}",
            status=503,
            param="model",
            code="model_not_ready",
            headers=((b"retry-after", b"1"),),
        )
