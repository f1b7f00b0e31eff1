"""Bodies that are not as they should be, and what is said of them."""

from __future__ import annotations

from typing import Any

import pytest

from genai.serving.asking import HINTS
from genai.serving.errors import ApiError
from genai.serving.parsing import Body
from genai.serving.wire.chat import ChatRequest
from genai.serving.wire.completions import CompletionRequest

CHAT = Body(ChatRequest, hints=HINTS)
COMPLETION = Body(CompletionRequest)
BEGINNING = '{"model":"m","messages":[{"role":"user","content":"x"}]'


def refused(body: str | bytes, form: Body[Any] = CHAT) -> tuple[str, str | None]:
    with pytest.raises(ApiError) as caught:
        form.read(body if isinstance(body, bytes) else body.encode())
    assert caught.value.status == 400
    return caught.value.message, caught.value.param


@pytest.mark.parametrize(
    ("more", "message", "param"),
    [
        ('"temperature":3', "temperature must be between 0 and 2, not 3", "temperature"),
        ('"temperature":"a"', "temperature must be a number, not 'a'", "temperature"),
        ('"temperature":1e999', "temperature must be between 0 and 2", "temperature"),
        ('"n":1.5', "n must be an integer, not 1.5", "n"),
        ('"n":true', "n must be an integer, not true", "n"),
        ('"n":0', "n must be at least 1, not 0", "n"),
        ('"repetition_penalty":0', "repetition_penalty must be above 0 and at most 100, not 0", "repetition_penalty"),
        (
            '"seed":123456789012345678901234567890',
            "seed must be between -9223372036854775808 and 9223372036854775807, not 123456789012345678901234567890",
            "seed",
        ),
        ('"logit_bias":{"5":"x"}', "every value of logit_bias must be a number", "logit_bias"),
        ('"logit_bias":[]', "logit_bias must be an object, not a list of 0", "logit_bias"),
        ('"max_token":3', "unknown parameter 'max_token' (did you mean 'max_tokens'?)", "max_token"),
        ('"guided_json":{}', HINTS["guided_json"], "guided_json"),
        (
            '"stream_options":{"include_use":true}',
            "unknown parameter 'stream_options.include_use' (did you mean 'include_usage'?)",
            "stream_options.include_use",
        ),
        ('"stream":"yes"', "stream must be true or false, not 'yes'", "stream"),
        ('"stop":5', "stop must be a string or a list, not 5", "stop"),
        (
            '"response_format":{"type":"xml"}',
            "response_format.type must be one of 'json_object', 'json_schema', 'text', not 'xml'",
            "response_format.type",
        ),
        ('"response_format":{}', "parameter 'response_format.type' is missing", "response_format.type"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_would_be_right(more: str, message: str, param: str) -> None:
    assert refused(f"{BEGINNING},{more}}}") == (message, param)


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ('{"model":"m"}', "parameter 'messages' is missing", "messages"),
        ('{"messages":[]}', "messages must be a list of at least 1 item, not a list of 0", "messages"),
        (
            '{"messages":[{"role":"x"}]}',
            "messages[0].role must be one of 'assistant', 'developer', 'function', 'system', 'tool', 'user', not 'x'",
            "messages[0].role",
        ),
        ('{"messages":[{"content":"x"}]}', "parameter 'messages[0].role' is missing", "messages[0].role"),
        (
            '{"messages":[{"role":"user","content":5}]}',
            "messages[0].content must be a string or a list, not 5",
            "messages[0].content",
        ),
        (
            '{"messages":[{"role":"user","contents":"a"}]}',
            "unknown parameter 'messages[0].contents' (did you mean 'content'?)",
            "messages[0].contents",
        ),
        ("[]", "the body must be a JSON object", None),
        ("null", "the body must be a JSON object", None),
    ],
)
def test_wrong_messages(body: str, message: str, param: str | None) -> None:
    found, where = refused(body)
    assert where == param
    assert found == message


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", "it ends too early"),
        (b'{"model":', "it ends too early"),
        (b'{"model":"\xff"}', "it is not UTF-8"),
        (b'{"model":"\xed\xa0\x80"}', "it is not UTF-8"),
        (b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}', "half a surrogate pair"),
        (b'{"model":"m","temperature":NaN}', "invalid character"),
        (b'{"model":"m"}x', "missing"),
        (b"\xef\xbb\xbf{}", "invalid character"),
        (b'{"metadata":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"metadata":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}", "nested too deeply"),
    ],
)
def test_what_is_no_json(body: bytes, fault: str) -> None:
    assert fault in refused(body)[0]


def test_token_ids_are_checked_where_they_stand() -> None:
    assert refused('{"model":"m","prompt":[1,-2]}', COMPLETION)[1] == "prompt[1]"
    assert refused('{"model":"m","prompt":[[1],[2,"x"]]}', COMPLETION)[1] == "prompt[1][1]"
    assert refused('{"model":"m","prompt":[1,99999999999999999999]}', COMPLETION)[1] == "prompt[1]"


def test_null_is_as_if_it_were_not_there() -> None:
    body = CHAT.read(f'{BEGINNING},"temperature":null,"stop":null,"tools":null,"response_format":null}}'.encode())
    assert (body.temperature, body.stop, body.tools, body.response_format) == (None, None, None, None)


def test_long_names_are_cut() -> None:
    message, _ = refused(f'{BEGINNING},"{"x" * 10_000}":1}}')
    assert len(message) < 200
