"""Fifty JSON schemas asked of SmolLM2 over HTTP: what is finished parses and validates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import pytest
from fifty_schemas import SCHEMAS
from genai_servers import GenaiServer, serving, write_config
from served_gallery import MODEL

pytestmark = [pytest.mark.integration, pytest.mark.slow]

FORMATS = jsonschema.Draft202012Validator.FORMAT_CHECKER
MAX_CUT_OFF = 25
"""Of the answers; a small model likes long texts and lists where it may."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GenaiServer]:
    folder = tmp_path_factory.mktemp("schemas")
    engine = {"precision": "fp32", "max_num_seqs": 16, "max_model_len": 512}
    write_config(folder, endpoints={"chat": {"type": "model", "model": MODEL, "engine": engine}})
    with serving(folder, "serve.yaml") as running:
        yield running


def ask(server: GenaiServer, number: int, schema: Any, *, streams: bool) -> tuple[str, str]:
    """What was answered, and how it ended."""
    form = {"type": "json_schema", "json_schema": {"name": "value", "schema": schema, "strict": True}}
    body = {
        "model": "chat",
        "messages": [{"role": "user", "content": "Give me a value as JSON."}],
        "response_format": form,
        "temperature": 0.7,
        "seed": number,
        "max_tokens": 80,
        "stream": streams,
    }
    answer = server.ask("/v1/chat/completions", body, timeout_s=300)
    assert answer.status == 200, (schema, answer.body)
    if not streams:
        choice = answer.body["choices"][0]
        return choice["message"]["content"], choice["finish_reason"]
    events = [json.loads(line[6:]) for line in answer.body.split("\n") if line.startswith("data: {")]
    choices = [choice for event in events for choice in event["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices), choices[-1]["finish_reason"]


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
def test_every_finished_answer_is_of_its_schema(server: GenaiServer, streams: bool) -> None:
    def answer(number: int) -> tuple[str, str]:
        return ask(server, number, schemas[number], streams=streams)

    schemas: list[Any] = list(SCHEMAS.values())
    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(answer, range(len(schemas))))
    finished = 0
    for schema, (text, reason) in zip(schemas, told, strict=True):
        assert reason in ("stop", "length"), (schema, reason)
        if reason == "stop":
            finished += 1
            jsonschema.Draft202012Validator(schema, format_checker=FORMATS).validate(json.loads(text))
    print(f"{finished} of {len(told)} finished and valid, {len(told) - finished} cut off")
    assert len(told) - finished < MAX_CUT_OFF


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "objekt"}, "objekt"),
        ({"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}, "nowhere"),
        ({"type": "string", "pattern": "(("}, "unclosed group"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, ""),
    ],
)
def test_a_bad_schema_is_told_and_harms_nobody(server: GenaiServer, schema: Any, says: str) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "value", "schema": schema, "strict": True}}
    body = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    refused = server.ask("/v1/chat/completions", {**body, "response_format": form})
    assert refused.status == 400, refused
    assert says in refused.body["error"]["message"]
    assert refused.body["error"]["param"].startswith("response_format")
    assert server.ask("/v1/chat/completions", body).status == 200
