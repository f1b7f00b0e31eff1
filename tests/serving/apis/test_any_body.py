"""Whatever comes in: an answer, or an error that is the asker's."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted_engine import ScriptedEngine, request_to, text_card

from genai.models.references import resolve_model
from genai.serving.apis import chat, completions, tokenize
from genai.serving.errors import ApiError
from genai.serving.exchange import Response

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
CHAT = {"model": "faq", "messages": [{"role": "user", "content": "Hi"}]}
COMPLETION = {"model": "faq", "prompt": "Hi"}
CASES: list[tuple[Any, Any, dict[str, Any]]] = [
    (chat.create, chat.ChatRequest, CHAT),
    (completions.create, completions.CompletionRequest, COMPLETION),
    (tokenize.tokenize, tokenize.TokenizeRequest, COMPLETION),
    (tokenize.detokenize, tokenize.DetokenizeRequest, {"model": "faq", "tokens": [1]}),
]


@pytest.fixture(scope="module")
def folder() -> Path:
    return resolve_model("gallery:smollm2-135m-instruct").path


def is_fair(folder: Path, handler: Any, body: bytes) -> bool:
    """Whether the answer is one, or an error of 4xx."""

    async def read() -> None:
        answer = await handler(request_to(ScriptedEngine(text_card("faq", folder)), body))
        if not isinstance(answer, Response):
            [chunk async for chunk in answer.chunks]

    try:
        asyncio.run(read())
    except ApiError as error:
        return 400 <= error.status < 500 and bool(error.message)
    return True


@pytest.mark.parametrize(("handler", "form", "sound"), CASES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_sound_body_with_one_thing_changed(
    folder: Path, handler: Any, form: Any, sound: dict[str, Any], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from([field.encode_name for field in msgspec.structs.fields(form)]))
    body = {
        **sound,
        name: data.draw(JSON | st.lists(st.integers(0, 400)) | st.dictionaries(st.text(), st.floats(-9, 9))),
    }
    try:
        encoded = msgspec.json.encode(body)
    except OverflowError:  # an integer of more than 64 bits
        encoded = msgspec.json.encode(sound)
    assert is_fair(folder, handler, encoded)


@pytest.mark.parametrize(("handler", "form", "sound"), CASES)
@settings(max_examples=50)
@given(body=st.binary(max_size=40))
def test_any_bytes(folder: Path, handler: Any, form: Any, sound: dict[str, Any], body: bytes) -> None:
    assert is_fair(folder, handler, body)


@pytest.mark.parametrize("depth", [10, 100, 200, 300, 500, 900, 5000])
@pytest.mark.parametrize(
    "name", ["metadata", "chat_template_kwargs", "tools", "response_format", "structured_outputs", "stop", "logit_bias"]
)
def test_deep_nesting(folder: Path, name: str, depth: int) -> None:
    value = '{"json":' * depth + "{}" + "}" * depth
    body = f'{{"model":"faq","messages":[{{"role":"user","content":"Hi"}}],"{name}":{value}}}'
    assert is_fair(folder, chat.create, body.encode())


def test_many_messages(folder: Path) -> None:
    messages = ",".join(['{"role":"user","content":""}'] * 10_000)
    assert is_fair(folder, chat.create, f'{{"model":"faq","messages":[{messages}]}}'.encode())
