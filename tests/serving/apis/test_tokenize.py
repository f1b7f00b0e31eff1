"""/v1/tokenize and /v1/detokenize."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scripted_engine import ScriptedEngine, answered, request_to, text_card

from genai.models.references import resolve_model
from genai.serving.apis import chat, tokenize
from genai.serving.errors import ApiError

USER = {"role": "user", "content": "Hi"}


@pytest.fixture(scope="module")
def folder() -> Path:
    return resolve_model("gallery:smollm2-135m-instruct").path


@pytest.fixture
def engine(folder: Path) -> ScriptedEngine:
    return ScriptedEngine(text_card("faq", folder), text_card("embedder", kind="encoder"))


def test_a_text_comes_back(engine: ScriptedEngine) -> None:
    sent = {"model": "faq", "prompt": "Hi <|im_end|> 🙂", "return_token_strs": True}
    answer = answered(tokenize.tokenize, request_to(engine, sent))
    assert (answer["count"], answer["max_model_len"]) == (len(answer["tokens"]), 100)
    assert answer["token_strs"][0] == "Hi"
    back = answered(tokenize.detokenize, request_to(engine, {"model": "faq", "tokens": answer["tokens"]}))
    assert back == {"prompt": sent["prompt"]}


def test_a_chat_has_the_tokens_that_are_answered(engine: ScriptedEngine) -> None:
    answer = answered(tokenize.tokenize, request_to(engine, {"messages": [USER]}))
    answered(chat.create, request_to(engine, {"model": "faq", "messages": [USER]}))
    assert answer["tokens"] == engine.asked[0].prompt_ids


@pytest.mark.parametrize("sent", [{"model": "faq"}, {"model": "faq", "prompt": "a", "messages": [USER]}])
def test_either_a_text_or_a_chat(engine: ScriptedEngine, sent: dict[str, Any]) -> None:
    with pytest.raises(ApiError, match="either prompt or messages"):
        answered(tokenize.tokenize, request_to(engine, sent))


def test_the_model_is_named_where_there_are_several(folder: Path) -> None:
    engine = ScriptedEngine(text_card("a", folder), text_card("b", folder))
    with pytest.raises(ApiError, match="parameter 'model' is missing"):
        answered(tokenize.tokenize, request_to(engine, {"prompt": "a"}))


def test_an_encoder_is_not_asked(engine: ScriptedEngine) -> None:
    with pytest.raises(ApiError, match="is an encoder"):
        answered(tokenize.tokenize, request_to(engine, {"model": "embedder", "prompt": "a"}))


def test_long_texts_are_read_in_a_thread(engine: ScriptedEngine) -> None:
    text = "word " * 8_000
    tokens = answered(tokenize.tokenize, request_to(engine, {"prompt": text}))["tokens"]
    assert answered(tokenize.detokenize, request_to(engine, {"tokens": tokens * 3}))["prompt"] == text * 3


def test_what_lm_eval_asks_before_it_begins(engine: ScriptedEngine) -> None:
    info = answered(tokenize.tokenizer_info, request_to(engine, b""))
    assert (info["bos_token"], info["eos_token"]) == ("<|im_start|>", "<|im_end|>")
    assert "SmolLM" in info["chat_template"]
    paths = {(route.method, route.path) for route in tokenize.ROUTES}
    assert {("GET", "/tokenizer_info"), ("POST", "/tokenize"), ("POST", "/v1/tokenize")} <= paths
