"""/v1/chat/completions: what the engine is asked, and what comes of what it says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted_engine import ScriptedEngine, adapter_card, answered, request_to, streamed, text_card, words

from genai.config.serve import LimitsConfig
from genai.models.generation import Event, Fault, GenerationRequest, Usage
from genai.models.references import resolve_model
from genai.serving.apis.chat import create
from genai.serving.errors import ApiError
from genai.serving.exchange import Caller

USER = {"role": "user", "content": "Hi"}


@pytest.fixture(scope="module")
def folder() -> Path:
    return resolve_model("gallery:smollm2-135m-instruct").path


@pytest.fixture
def engine(folder: Path) -> ScriptedEngine:
    return ScriptedEngine(
        text_card("faq", folder, adapters=[adapter_card("faq-lora")]), text_card("embedder", kind="encoder")
    )


def body(**changes: Any) -> dict[str, Any]:
    return {"model": "faq", "messages": [USER], **changes}


def refused(engine: ScriptedEngine, sent: Any, **more: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        answered(create, request_to(engine, sent, **more))
    assert not engine.asked, "nothing reaches the engine"
    return caught.value


# --- answers ----------------------------------------------------------------------------------------------------------


def test_an_answer_has_openais_form(engine: ScriptedEngine) -> None:
    request = request_to(engine, body())
    answer = answered(create, request)
    assert answer.pop("created") > 1_700_000_000
    prompt_tokens = len(engine.asked[0].prompt_ids)
    assert answer == {
        "id": "chatcmpl-r1",
        "object": "chat.completion",
        "model": "faq",
        "system_fingerprint": "fp_0123456789ab",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello world!", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
                "stop_reason": None,
            }
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": 3,
            "total_tokens": prompt_tokens + 3,
            "prompt_tokens_details": {"cached_tokens": 1},
        },
        "prompt_logprobs": None,
    }
    notes = request.notes
    assert (notes.model, notes.prompt_tokens, notes.completion_tokens) == ("faq", prompt_tokens, 3)
    assert notes.finish_reasons == ["stop"]
    assert notes.first_token_s is not None


def test_the_time_between_tokens_is_counted(engine: ScriptedEngine) -> None:
    request = request_to(engine, body(n=2))
    answered(create, request)
    told = asyncio.run(request.services.metrics.render()).decode()
    assert 'vllm:inter_token_latency_seconds_count{model_name="faq"} 4.0' in told


def test_an_adapter_is_asked_by_its_name(engine: ScriptedEngine) -> None:
    answer = answered(create, request_to(engine, body(model="faq-lora")))
    assert (answer["model"], answer["system_fingerprint"]) == ("faq-lora", "fp_0123456789ab_feedbeef0000")
    assert (engine.asked[0].model, engine.asked[0].adapter) == ("faq", "faq-lora")


def test_parameters_reach_the_engine(engine: ScriptedEngine) -> None:
    sent = body(
        max_completion_tokens=9,
        temperature=0.5,
        top_p=0.9,
        stop=["\n", "END"],
        seed=7,
        logit_bias={"12": -100, "13": 5.5},
        presence_penalty=1,
        frequency_penalty=-1,
        logprobs=True,
        top_logprobs=2,
        top_k=40,
        min_p=0.1,
        repetition_penalty=1.1,
        min_tokens=2,
        ignore_eos=True,
        stop_token_ids=[5, 6],
        include_stop_str_in_output=True,
        skip_special_tokens=False,
        n=2,
        user="u",
        metadata={"a": "b"},
        store=False,
        service_tier="auto",
        parallel_tool_calls=True,
        reasoning_effort="low",
    )
    answered(create, request_to(engine, sent, caller=Caller(app="crm")))
    first, second = engine.asked
    asked = first.sampling
    assert (asked.max_tokens, asked.temperature, asked.top_p, asked.stop) == (9, 0.5, 0.9, ("\n", "END"))
    assert (asked.seed, second.sampling.seed) == (7, 8)
    assert asked.logit_bias == {12: -100.0, 13: 5.5}
    assert (asked.presence_penalty, asked.frequency_penalty, asked.repetition_penalty) == (1.0, -1.0, 1.1)
    assert (asked.logprobs, asked.prompt_logprobs) == (2, None)
    assert (asked.top_k, asked.min_p, asked.min_tokens, asked.ignore_eos) == (40, 0.1, 2, True)
    assert (asked.stop_token_ids, asked.include_stop, asked.skip_special_tokens) == ((5, 6), True, False)
    assert first.client == "crm"
    assert first.timeout_s is not None
    assert 59 < first.timeout_s <= 60
    assert first.id != second.id


def test_what_is_not_said_is_the_default(engine: ScriptedEngine) -> None:
    for _ in range(2):
        answered(create, request_to(engine, body(top_k=-1)))
    first, second = (asked.sampling for asked in engine.asked)
    assert first.max_tokens == 100 - len(engine.asked[0].prompt_ids), "what the context leaves"
    assert (first.temperature, first.top_p, first.top_k, first.stop, first.logit_bias) == (1.0, 1.0, 0, (), None)
    assert first.seed != second.seed
    assert engine.asked[0].id != engine.asked[1].id, "whatever request id the client sends"


def test_no_share_at_all_leaves_the_likeliest_token(engine: ScriptedEngine) -> None:
    answered(create, request_to(engine, body(top_p=0)))
    assert (engine.asked[0].sampling.temperature, engine.asked[0].sampling.top_p) == (0.0, 1.0)


def test_log_probabilities_have_openais_form(engine: ScriptedEngine) -> None:
    def infinite(request: GenerationRequest) -> list[Event]:
        events = words(request, ["å"])
        object.__setattr__(events[0].logprobs[0], "logprob", float("-inf"))
        return events

    engine.script = infinite
    answer = answered(create, request_to(engine, body(logprobs=True, top_logprobs=1)))
    assert answer["choices"][0]["logprobs"] == {
        "content": [
            {
                "token": "å",
                "logprob": -9999.0,
                "bytes": [195, 165],
                "top_logprobs": [{"token": "å", "logprob": -0.5, "bytes": []}],
            }
        ],
        "refusal": None,
    }
    engine.script = words
    assert answered(create, request_to(engine, body(logprobs=False)))["choices"][0]["logprobs"] is None


def test_log_probabilities_of_the_prompt_have_vllms_form(engine: ScriptedEngine) -> None:
    answer = answered(create, request_to(engine, body(prompt_logprobs=0)))
    first, second = answer["prompt_logprobs"][:2]
    token = engine.asked[0].prompt_ids[1]
    assert first is None
    assert second == {str(token): {"logprob": -0.5, "rank": 1, "decoded_token": f"<{token}>"}}


# --- streams ----------------------------------------------------------------------------------------------------------


def test_a_stream_has_openais_form(engine: ScriptedEngine) -> None:
    chunks = streamed(create, request_to(engine, body(stream=True)))
    assert chunks.pop() == "[DONE]"
    assert {(chunk["id"], chunk["object"], chunk["model"]) for chunk in chunks} == {
        ("chatcmpl-r1", "chat.completion.chunk", "faq")
    }
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"content": "Hello"},
        {"content": " world"},
        {"content": "!"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 4 + ["stop"]
    assert not any("usage" in chunk for chunk in chunks)


def test_a_stream_tells_usage_at_its_end(engine: ScriptedEngine) -> None:
    options = {"include_usage": True, "include_obfuscation": False}
    chunks = streamed(create, request_to(engine, body(stream=True, n=2, stream_options=options)))
    assert chunks.pop() == "[DONE]"
    last = chunks.pop()
    assert last["choices"] == []
    tokens = len(engine.asked[0].prompt_ids)
    assert last["usage"] == {
        "prompt_tokens": tokens,
        "completion_tokens": 6,
        "total_tokens": tokens + 6,
        "prompt_tokens_details": {"cached_tokens": 1},
    }
    assert all(chunk["usage"] is None for chunk in chunks)
    texts = ["", ""]
    for chunk in chunks:
        texts[chunk["choices"][0]["index"]] += chunk["choices"][0]["delta"].get("content", "")
    assert texts == ["Hello world!"] * 2
    assert [chunk["choices"][0]["index"] for chunk in chunks[:4]] == [0, 0, 1, 1], "they come side by side"


def test_a_stream_has_log_probabilities(engine: ScriptedEngine) -> None:
    chunks = streamed(create, request_to(engine, body(stream=True, logprobs=True)))
    told = [chunk["choices"][0]["logprobs"] for chunk in chunks[1:-2]]
    assert [entry["token"] for logprobs in told for entry in logprobs["content"]] == ["Hello", " world", "!"]


@pytest.mark.parametrize("text", ['"\\\n\r\u2028\x00\x7f', "🙂\ud7ff", "</script>", "data: [DONE]\n\n"])
def test_any_text_survives(engine: ScriptedEngine, text: str) -> None:
    engine.script = lambda request: words(request, [text])
    chunks = streamed(create, request_to(engine, body(stream=True)))
    assert chunks[1]["choices"][0]["delta"]["content"] == text
    assert answered(create, request_to(engine, body()))["choices"][0]["message"]["content"] == text


def test_text_that_comes_with_the_end_is_sent_before_it(engine: ScriptedEngine) -> None:
    def script(request: GenerationRequest) -> list[Event]:
        usage = Usage(prompt_tokens=3, completion_tokens=2)
        return [Event(id=request.id, text="Hi", token_ids=[1, 2], finish_reason="stop", stop_reason="END", usage=usage)]

    engine.script = script
    chunks = streamed(create, request_to(engine, body(stream=True)))
    assert [chunk["choices"][0]["delta"] for chunk in chunks[:-1]] == [
        {"role": "assistant", "content": ""},
        {"content": "Hi"},
        {},
    ]
    assert chunks[-2]["choices"][0]["stop_reason"] == "END"


# --- faults -----------------------------------------------------------------------------------------------------------


def failing(fault: Fault, after: int = 0) -> Callable[[GenerationRequest], list[Event]]:
    def script(request: GenerationRequest) -> list[Event]:
        return [*words(request)[:after], Event(id=request.id, finish_reason="error", fault=fault)]

    return script


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        ("invalid", 400, None),
        ("too_long", 400, "context_length_exceeded"),
        ("overloaded", 429, "rate_limit_exceeded"),
        ("timeout", 504, "timeout"),
        ("failed", 500, "engine_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_fault_before_the_first_word_is_the_answer(
    engine: ScriptedEngine, code: Any, status: int, told: str | None, stream: bool
) -> None:
    engine.script = failing(Fault(code=code, message="so it is", param="p"))
    with pytest.raises(ApiError, match="so it is") as caught:
        (streamed if stream else answered)(create, request_to(engine, body(stream=stream)))
    assert (caught.value.status, caught.value.code, caught.value.param) == (status, told, "p")


def test_a_fault_in_the_middle_ends_the_stream(engine: ScriptedEngine) -> None:
    engine.script = failing(Fault(code="failed", message="broken"), after=2)
    request = request_to(engine, body(stream=True))
    read = []

    async def run() -> None:
        answer = await create(request)
        async for chunk in answer.chunks:
            read.append(chunk)

    with pytest.raises(ApiError, match="broken"):
        asyncio.run(run())
    assert b" world" in read[-1]
    assert b"[DONE]" not in b"".join(read)


def test_the_first_fault_ends_all_answers(engine: ScriptedEngine) -> None:
    def script(request: GenerationRequest) -> list[Event]:
        fault = Fault(code="failed", message="broken")
        return failing(fault, after=1)(request) if request.id.endswith("-1") else words(request)

    engine.script = script
    with pytest.raises(ApiError, match="broken"):
        answered(create, request_to(engine, body(n=3)))
    assert engine.streams[0].aborted


def test_an_answer_that_was_given_up_is_no_answer(engine: ScriptedEngine) -> None:
    engine.script = lambda request: words(request, reason="abort")
    with pytest.raises(ApiError) as caught:
        answered(create, request_to(engine, body()))
    assert caught.value.status == 503


def test_a_client_that_leaves_frees_its_answers(engine: ScriptedEngine) -> None:
    request = request_to(engine, body(stream=True))

    async def run() -> None:
        chunks = (await create(request)).chunks
        await anext(chunks)
        assert request.gone == [engine.streams[0].abort]
        await chunks.aclose()

    asyncio.run(run())
    assert engine.streams[0].aborted


# --- what is refused --------------------------------------------------------------------------------------------------


def test_another_model_never_answers(engine: ScriptedEngine) -> None:
    error = refused(engine, body(model="fak"))
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")
    assert error.message == "there is no model 'fak' (did you mean 'faq'?)"


def test_names_of_others_are_not_told(engine: ScriptedEngine) -> None:
    caller = Caller(app="crm", routes=frozenset({"faq-lora"}))
    error = refused(engine, body(model="faq"), caller=caller)
    assert (error.status, error.message) == (404, "there is no model 'faq' (GET /v1/models lists what there is)")
    error = refused(engine, body(model="faq-laro"), caller=caller)
    assert (error.status, error.message) == (404, "there is no model 'faq-laro' (did you mean 'faq-lora'?)")
    error = refused(engine, body(model="faq-lora"), caller=Caller(app="crm", routes=frozenset()))
    assert (error.status, "'faq'" in error.message) == (404, False)
    answered(create, request_to(engine, body(model="faq-lora"), caller=caller))


def test_an_encoder_does_not_chat(engine: ScriptedEngine) -> None:
    error = refused(engine, body(model="embedder"))
    assert (error.status, error.message) == (400, "'embedder' is an encoder: ask /v1/embeddings")


def test_a_model_that_failed_says_why(folder: Path) -> None:
    engine = ScriptedEngine(text_card("faq", folder, state="failed", error="out of memory"))
    error = refused(engine, body())
    assert error.status == 503
    assert "out of memory" in error.message


def test_a_model_that_sleeps_is_asked(folder: Path) -> None:
    engine = ScriptedEngine(text_card("faq", folder, state="unloaded"))
    assert answered(create, request_to(engine, body()))["choices"]


def test_too_long_a_prompt_is_told_with_both_numbers(engine: ScriptedEngine) -> None:
    error = refused(engine, body(messages=[{"role": "user", "content": "word " * 200}]))
    assert error.code == "context_length_exceeded"
    assert error.message.startswith("this model's maximum context length is 100 tokens, but the prompt has 2")
    error = refused(engine, body(max_tokens=99))
    assert error.code == "context_length_exceeded"
    assert error.param == "max_tokens"
    error = refused(engine, body(messages=[{"role": "user", "content": "x" * 3_000_000}]))
    assert error.message.endswith("the prompt has more than 37037"), "without a look at its tokens"


@pytest.mark.parametrize(
    ("changes", "message", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools is not supported", "tools"),
        ({"functions": [{}]}, "functions is not supported", "functions"),
        ({"tool_choice": "required"}, "tool_choice is not supported", "tool_choice"),
        ({"audio": {"voice": "x"}}, "audio is not supported", "audio"),
        ({"modalities": ["text", "audio"]}, "modalities other than text are not supported", "modalities"),
        ({"top_logprobs": 2}, "top_logprobs is only allowed with logprobs: true", "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "logprobs must be at most 20, not 21", "logprobs"),
        ({"max_tokens": 0}, "max_tokens must be at least 1, not 0", "max_tokens"),
        (
            {"max_tokens": 1, "max_completion_tokens": 2},
            "max_tokens and max_completion_tokens cannot both be given",
            "max_tokens",
        ),
        ({"n": 17}, "n must be between 1 and 16, not 17", "n"),
        ({"stop": ["a"] * 17}, "stop must have at most 16 texts, not 17", "stop"),
        ({"stop": ["a", ""]}, "stop must not have an empty text", "stop"),
        (
            {"logit_bias": {"300": 1}},
            "logit_bias has '300', which is no token of the model: ids are 0 to 299",
            "logit_bias",
        ),
        (
            {"logit_bias": {"-1": 1}},
            "logit_bias has '-1', which is no token of the model: ids are 0 to 299",
            "logit_bias",
        ),
        ({"min_tokens": 5, "max_tokens": 4}, "min_tokens must be at most max_tokens (4), not 5", "min_tokens"),
        ({"stream_options": {"include_usage": True}}, "stream_options is only allowed with stream", "stream_options"),
        ({"stream": True, "prompt_logprobs": 1}, "prompt_logprobs cannot be given with stream", "prompt_logprobs"),
    ],
)
def test_what_cannot_be_done_is_refused(
    engine: ScriptedEngine, changes: dict[str, Any], message: str, param: str
) -> None:
    error = refused(engine, body(**changes))
    assert (error.status, error.message, error.param) == (400, message, param)


@pytest.mark.parametrize(
    "changes",
    [{"tools": []}, {"tools": None}, {"tool_choice": "none"}, {"tool_choice": "auto"}, {"modalities": ["text"]}],
)
def test_what_asks_for_nothing_is_no_fault(engine: ScriptedEngine, changes: dict[str, Any]) -> None:
    assert answered(create, request_to(engine, body(**changes)))["choices"]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user"}, "messages[0].content"),
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "a"}]}, "messages[0]"),
        ({"role": "tool", "content": "a"}, "messages[0].role"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0].text"),
        (
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}]},
            "messages[0].content[1].type",
        ),
    ],
)
def test_messages_are_text(engine: ScriptedEngine, message: dict[str, Any], param: str) -> None:
    assert refused(engine, body(messages=[message])).param == param


def test_parts_of_a_text_are_joined(engine: ScriptedEngine) -> None:
    parts = [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]
    for content in ("Hi", parts):
        answered(create, request_to(engine, body(messages=[{"role": "developer", "content": content}, USER])))
    answered(create, request_to(engine, body(messages=[{"role": "system", "content": "Hi"}, USER])))
    assert engine.asked[0].prompt_ids == engine.asked[1].prompt_ids == engine.asked[2].prompt_ids


def test_messages_of_the_official_client_come_back_as_they_are(engine: ScriptedEngine) -> None:
    said = {"role": "assistant", "content": "a", "refusal": None, "audio": None, "function_call": None}
    assert answered(create, request_to(engine, body(messages=[USER, {**said, "tool_calls": None}, USER])))["choices"]


# --- what it must look like -------------------------------------------------------------------------------------------


def schema_body(schema: Any) -> dict[str, Any]:
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
    return body(response_format=wanted)


def test_formats_become_grammars(engine: ScriptedEngine) -> None:
    schema = {"type": "object", "$defs": {"a": {"$ref": "#/$defs/a"}}, "properties": {"$ref": {"type": "string"}}}
    cases: list[tuple[dict[str, Any], Any]] = [
        (body(response_format={"type": "text"}), None),
        (body(response_format={"type": "json_object"}), ("json_object", "")),
        (schema_body(schema), ("json_schema", json.dumps(schema, separators=(",", ":")))),
        (body(structured_outputs={"json": {"type": "object"}}), ("json_schema", '{"type":"object"}')),
        (body(structured_outputs={"json": '{"type": "object"}'}), ("json_schema", '{"type": "object"}')),
        (body(structured_outputs={"regex": "a+"}), ("regex", "a+")),
        (body(structured_outputs={"choice": ["a", "b"]}), ("choice", '["a","b"]')),
        (body(structured_outputs={"grammar": "start: /a/"}), ("lark", "start: /a/")),
        (body(structured_outputs={"json_object": True}), ("json_object", "")),
    ]
    for sent, expected in cases:
        answered(create, request_to(engine, sent))
        grammar = engine.asked[-1].grammar
        assert (grammar and (grammar.kind, grammar.text)) == expected


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth - 1):
        schema = {"not": schema}
    return schema


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (schema_body(None), "parameter 'response_format.json_schema.schema' is missing"),
        (body(response_format={"type": "json_schema"}), "parameter 'response_format.json_schema.schema' is missing"),
        (schema_body([1]), "response_format.json_schema.schema must be an object"),
        (schema_body({"title": "x" * 70_000}), "more than the 64kb that are allowed"),
        (schema_body(nested(33)), "is nested more than 32 deep (at #/not/not/"),
        (schema_body(nested(300)), "is nested more than 32 deep (at #/not/not/"),
        (schema_body({"$ref": "https://example.org/a.json"}), "refers to 'https://example.org/a.json' (at #)"),
        (schema_body({"items": [{"$ref": "file:///etc/passwd"}]}), "refers to 'file:///etc/passwd' (at #/items/0)"),
        (body(structured_outputs={}), "wants exactly one of json, json_object, regex, choice, grammar, not 0"),
        (body(structured_outputs={"regex": "a", "choice": ["b"]}), "not 2"),
        (body(structured_outputs={"json": "{"}), "structured_outputs.json is not valid JSON"),
        (body(structured_outputs={"regex": "a" * 70_000}), "more than the 64kb that are allowed"),
        (
            body(structured_outputs={"regex": "a"}, response_format={"type": "json_object"}),
            "response_format and structured_outputs cannot both be given",
        ),
    ],
)
def test_schemas_have_limits(engine: ScriptedEngine, sent: dict[str, Any], message: str) -> None:
    assert message in refused(engine, sent).message


def test_limits_are_the_operators(engine: ScriptedEngine) -> None:
    limits = LimitsConfig(max_n=2, max_logprobs=1, max_stop_texts=1, max_schema_depth=3, max_schema="20b")
    for changes in (
        {"n": 3},
        {"logprobs": True, "top_logprobs": 2},
        {"stop": ["a", "b"]},
        {"response_format": schema_body(nested(4))["response_format"]},
    ):
        assert refused(engine, body(**changes), limits=limits).status == 400
