"""A name means one model, to those who may ask it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scripted_engine import ScriptedEngine, adapter_card, request_to, text_card

from genai.serving.errors import ApiError
from genai.serving.exchange import Caller
from genai.serving.targets import Target, find_target, lookup, targets

ENGINE = ScriptedEngine(
    text_card("faq", folder="x", adapters=[adapter_card("faq-lora"), adapter_card("embedder")]),
    text_card("embedder", kind="encoder", folder=""),
    text_card("sleeper", state="unloaded"),
)
ANYBODY = Caller(app="")


def test_an_endpoint_comes_before_an_adapter_of_its_name() -> None:
    found = lookup(ENGINE.cards, ANYBODY, "embedder")
    assert found is not None
    assert (found.card.kind, found.adapter) == ("encoder", None)
    assert [target.name for target in targets(ENGINE.cards, ANYBODY)] == ["faq", "faq-lora", "embedder", "sleeper"]


def test_an_adapter_may_be_asked_without_its_endpoint() -> None:
    caller = Caller(app="a", routes=frozenset({"faq-lora"}))
    found = lookup(ENGINE.cards, caller, "faq-lora")
    assert found is not None
    assert (found.name, found.card.name) == ("faq-lora", "faq")
    assert lookup(ENGINE.cards, caller, "faq") is None


@pytest.mark.parametrize(
    ("name", "kind", "status", "message"),
    [
        ("faq", "encoder", 400, "'faq' is a language model: ask /v1/chat/completions or /v1/completions"),
        ("embedder", "reranker", 400, "'embedder' is an encoder: ask /v1/embeddings"),
        ("embeder", "encoder", 404, "there is no model 'embeder' (did you mean 'embedder'?)"),
        ("faq-lore", "encoder", 404, "there is no model 'faq-lore' (GET /v1/models lists what there is)"),
        ("sleeper", "text", 503, "the model 'sleeper' is not there yet: it is unloaded"),
        ("", "text", 404, "there is no model '' (GET /v1/models lists what there is)"),
    ],
)
def test_what_cannot_be_asked(name: str, kind: str, status: int, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        find_target(request_to(ENGINE, {}), name, kind)  # type: ignore[arg-type]
    assert (caught.value.status, caught.value.message) == (status, message)


def test_long_names_are_cut() -> None:
    with pytest.raises(ApiError) as caught:
        find_target(request_to(ENGINE, {}), "x" * 10_000, "text")
    assert len(caught.value.message) < 200


def test_a_fingerprint_tells_weights_apart_whatever_made_it() -> None:
    card = replace(ENGINE.cards["faq"], fingerprint="sha256:5f23c0ffee0123456789")
    adapter = replace(card.adapters[0], fingerprint="feedbeef00001111")
    assert Target(card).fingerprint == "fp_5f23c0ffee01"
    assert Target(card, adapter).fingerprint == "fp_5f23c0ffee01_feedbeef0000"
