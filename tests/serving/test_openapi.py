from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import jsonschema
import msgspec
import pytest
from serving_http import running

from genai.serving.apis import ALL_ROUTES, health
from genai.serving.exchange import Request, Response, Route
from genai.serving.openapi import describe


class Asked(msgspec.Struct):
    name: str
    count: int = 1


class Told(msgspec.Struct):
    text: str


async def handler(request: Request) -> Response:
    return Response(b"{}")


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(asyncio.run(ALL_ROUTES[-1].handler(None)).body)  # type: ignore
    return found


def test_an_operation_is_described() -> None:
    route = Route(
        method="POST",
        path="/v1/things/{name}/do",
        handler=handler,
        summary="Do it",
        request_type=Asked,
        response_type=Told,
        streams=True,
    )
    described = describe([route])
    operation = described["paths"]["/v1/things/{name}/do"]["post"]
    assert operation["operationId"] == "post_v1_things_name_do"
    assert [parameter["name"] for parameter in operation["parameters"]] == ["name"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/Asked"}
    assert described["components"]["schemas"]["Asked"]["required"] == ["name"]
    assert set(operation["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    assert set(operation["responses"]) == {"200", "default"}


def test_everything_that_is_answered_is_in_it() -> None:
    described = document()
    assert described["openapi"] == "3.1.0"
    told = {(method.upper(), path) for path, methods in described["paths"].items() for method in methods}
    assert told == {(route.method, route.path) for route in ALL_ROUTES}
    names = [operation["operationId"] for methods in described["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))


def test_its_schemas_are_schemas_and_its_examples_fit() -> None:
    described = document()
    for name in described["components"]["schemas"]:
        jsonschema.Draft202012Validator.check_schema({**described, "$ref": f"#/components/schemas/{name}"})
    for path, methods in described["paths"].items():
        for operation in methods.values():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            if "example" in content:
                jsonschema.validate(content["example"], {**described, **content["schema"]}), path


def test_what_is_open_says_so() -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
        assert document()["paths"][path]["get"]["security"] == []


class TestHealth:
    @pytest.mark.parametrize("is_ready", [True, False])
    def test_readiness(self, is_ready: bool) -> None:
        with running(more_routes=health.ROUTES) as server, server.connect() as client:
            engine: Any = server.services[-1].engine
            engine.is_ready = is_ready
            engine.cards = {"faq": replace(engine.cards["faq"], state="ready" if is_ready else "loading")}
            answer = client.ask("GET", "/readyz")
            assert answer.status == (200 if is_ready else 503)
            assert answer.json["models"] == {"faq": "ready" if is_ready else "loading"}
            assert client.ask("GET", "/healthz").json == {"status": "ok"}

    def test_metrics(self) -> None:
        with running(more_routes=health.ROUTES) as server, server.connect() as client:
            client.ask("POST", "/echo", b"{}")
            answer = client.ask("GET", "/metrics")
            assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert b'vllm:prompt_tokens_total{model_name="faq"} 3.0' in answer.body
