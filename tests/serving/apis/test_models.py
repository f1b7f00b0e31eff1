"""/v1/models: what the caller may ask, and nothing else."""

from __future__ import annotations

import pytest
from scripted_engine import ScriptedEngine, adapter_card, answered, request_to, text_card

from genai.serving.apis.models import list_models, show_model
from genai.serving.errors import ApiError
from genai.serving.exchange import Caller


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(
        text_card("faq", adapters=[adapter_card("faq-lora")]),
        text_card("embedder", kind="encoder", max_model_len=0, state="unloaded"),
    )


def test_endpoints_and_adapters_are_listed(engine: ScriptedEngine) -> None:
    answer = answered(list_models, request_to(engine, b""))
    assert answer["object"] == "list"
    assert answer["data"] == [
        {
            "id": "faq",
            "object": "model",
            "created": 1_700_000_000,
            "owned_by": "genai",
            "root": "faq",
            "parent": None,
            "max_model_len": 100,
            "kind": "text",
            "state": "ready",
        },
        {
            "id": "faq-lora",
            "object": "model",
            "created": 1_800_000_000,
            "owned_by": "genai",
            "root": "faq",
            "parent": "faq",
            "max_model_len": 100,
            "kind": "text",
            "state": "ready",
        },
        {
            "id": "embedder",
            "object": "model",
            "created": 1_700_000_000,
            "owned_by": "genai",
            "root": "embedder",
            "parent": None,
            "max_model_len": None,
            "kind": "encoder",
            "state": "unloaded",
        },
    ]


def test_only_what_the_caller_may_ask(engine: ScriptedEngine) -> None:
    caller = Caller(app="crm", routes=frozenset({"faq-lora", "other"}))
    answer = answered(list_models, request_to(engine, b"", caller=caller))
    assert [model["id"] for model in answer["data"]] == ["faq-lora"]
    assert answered(show_model, request_to(engine, b"", caller=caller, path_params={"name": "faq-lora"}))["parent"]
    with pytest.raises(ApiError) as caught:
        answered(show_model, request_to(engine, b"", caller=caller, path_params={"name": "faq"}))
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")


def test_paths_of_the_operator_are_not_told(engine: ScriptedEngine) -> None:
    import asyncio

    assert b"runs:" not in asyncio.run(list_models(request_to(engine, b""))).body
