"""What a server is sent for a question, in the form of OpenAI's API.

Source:
    https://platform.openai.com/docs/api-reference/chat/create
    https://platform.openai.com/docs/api-reference/completions/create
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from genai.config.eval import TargetConfig
from genai.evaluation.records import Chat, texts_of

CHAT, COMPLETIONS = "chat/completions", "completions"


def answer_body(question: Chat, config: TargetConfig) -> dict[str, Any]:
    """The body of a request for an answer; a key that is null in `extra_body` is not sent.

    Args:
        question: what is asked.
        config: `api` says in which form, `sampling` how the answer is drawn.
    """
    sampling = config.sampling
    stop = sampling.stop if question.stop is None else question.stop
    body: dict[str, Any] = {
        "model": config.model,
        "max_tokens": sampling.max_tokens if question.max_tokens is None else question.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p if sampling.top_p < 1 else None,
        "seed": sampling.seed,
        "stop": list(stop) or None,
        "response_format": _response_format(question.json_schema),
    }
    if config.api == "chat":
        body |= {"messages": as_messages(question, config.system), "tools": list(question.tools) or None}
    else:
        body |= {"prompt": as_prompt(question, config.system)}
    if config.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return {name: value for name, value in (body | config.extra_body).items() if value is not None}


def echo_body(texts: Sequence[str], config: TargetConfig) -> dict[str, Any]:
    """The body of a request for the likelihood of every token of some texts, with none to follow."""
    body = {
        "model": config.model,
        "prompt": list(texts),
        "max_tokens": 0,
        "temperature": 0,
        "echo": True,
        "logprobs": 1,
    }
    return {name: value for name, value in (body | config.extra_body).items() if value is not None}


def as_messages(question: Chat, system: str | None = None) -> list[Mapping[str, Any]]:
    """The question as a conversation."""
    before = [{"role": "system", "content": system}] if system else []
    if question.prompt is not None:
        return [*before, {"role": "user", "content": question.prompt}]
    return [*before, *question.messages]


def as_prompt(question: Chat, system: str | None = None) -> str:
    """The question as plain text: of a conversation of several turns each with who says it."""
    before = f"{system}\n\n" if system else ""
    if question.prompt is not None:
        return before + question.prompt
    if len(question.messages) == 1 and isinstance(question.messages[0].get("content"), str):
        return before + str(question.messages[0]["content"])
    return f"{before}{texts_of(question.messages)}\nassistant:"


def _response_format(schema: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if schema is None:
        return None
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": dict(schema)}}
