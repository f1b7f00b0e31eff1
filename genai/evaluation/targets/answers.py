"""What a server answered, in the form of OpenAI's API, as an `Answer`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from genai.config.eval import PriceConfig
from genai.evaluation.costing import price_of
from genai.evaluation.records import Answer, Failure, Usage
from genai.evaluation.targets.replies import Reply
from genai.storage.http_words import words_of

_BROKEN = frozenset({"error", "abort"})
"""Ends of an answer that is none (`genai serve` and vLLM say so)."""


def read_answer(reply: Reply, price: PriceConfig) -> Answer | Failure:
    """The answer in a reply of /v1/chat/completions or /v1/completions, streamed or whole.

    Args:
        reply: as it came.
        price: of tokens, for what the answer cost.
    """
    try:
        body = reply.body if reply.event_times_s is None else joined(reply.body)
        ttft_s = _first_s(reply.body, reply.event_times_s or ())
        if body.get("error"):
            return Failure(reason=f"the server failed: {words_of(json.dumps(body).encode()) or 'no reason is told'}")
        usage = usage_of(body, price, latency_s=reply.latency_s, ttft_s=ttft_s)
        choice = body["choices"][0]
        reason = text_of(choice.get("finish_reason")) or None
        if reason in _BROKEN:
            return Failure(reason=f"the server gave up (finish_reason {reason})", usage=usage)
        message = choice.get("message") or {"content": choice.get("text")}
        return Answer(
            text=text_of(message.get("content")) or text_of(message.get("refusal")),
            tool_calls=tuple(_tool_call(call) for call in message.get("tool_calls") or ()),
            contexts=_contexts(message) or _contexts(body),
            finish_reason=reason,
            usage=usage,
        )
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        return Failure(reason=f"the answer has another form than OpenAI's ({type(error).__name__}: {error})")


def usage_of(
    body: Mapping[str, Any], price: PriceConfig, *, latency_s: float | None = None, ttft_s: float | None = None
) -> Usage:
    """What the answer took, as far as the server says."""
    told = body.get("usage")
    if not isinstance(told, dict):
        return Usage(latency_s=latency_s, ttft_s=ttft_s)
    read, said = int(told.get("prompt_tokens") or 0), int(told.get("completion_tokens") or 0)
    usd = price_of(price, prompt_tokens=read, completion_tokens=said)
    return Usage(prompt_tokens=read, completion_tokens=said, usd=usd, latency_s=latency_s, ttft_s=ttft_s)


def text_of(content: Any) -> str:
    """Of a message: a text, or a list of parts of which those with text count.

    Raises:
        AttributeError, TypeError: it is something else.
    """
    parts = [part.get("text") for part in content] if isinstance(content, list) else [content]
    return "".join(part for part in parts if part is not None)  # which refuses what is no text


def joined(events: Sequence[Any]) -> dict[str, Any]:
    """The events of a stream as the reply that would have come whole; an error among them is all that is left."""
    whole: dict[str, Any] = {}
    message: dict[str, Any] = {"content": ""}
    calls: dict[int, dict[str, str]] = {}
    reason = None
    for event in events:
        if not isinstance(event, dict) or event.get("error"):
            return event if isinstance(event, dict) else {}
        whole |= {name: value for name, value in event.items() if value}
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {"content": choice.get("text")}
            message |= {name: value for name, value in delta.items() if name not in ("content", "tool_calls")}
            message["content"] += text_of(delta.get("content"))
            _add_calls(calls, delta.get("tool_calls") or ())
            reason = choice.get("finish_reason") or reason
    message["tool_calls"] = [{"function": calls[number]} for number in sorted(calls)]
    return {**whole, "choices": [{"message": message, "finish_reason": reason}]} if "choices" in whole else whole


def _add_calls(calls: dict[int, dict[str, str]], pieces: Sequence[Mapping[str, Any]]) -> None:
    for place, piece in enumerate(pieces):
        call = calls.setdefault(int(piece.get("index", place)), {"name": "", "arguments": ""})
        for name in call:
            call[name] += (piece.get("function") or {}).get(name) or ""


def _first_s(events: Sequence[Any], times_s: Sequence[float]) -> float | None:
    """When the first piece of text, or of a call, came; None where no times are told."""
    for event, time_s in zip(events, times_s, strict=False):
        for choice in event.get("choices") or () if isinstance(event, dict) else ():
            delta = choice.get("delta") or {"content": choice.get("text")}
            if delta.get("content") or delta.get("tool_calls"):
                return time_s
    return None


def _tool_call(call: Mapping[str, Any]) -> dict[str, str]:
    arguments = call["function"].get("arguments") or "{}"
    is_text = isinstance(arguments, str)
    return {"name": text_of(call["function"]["name"]), "arguments": arguments if is_text else json.dumps(arguments)}


def _contexts(said: Mapping[str, Any]) -> tuple[str, ...]:
    """Passages that a retrieval chain tells beside its answer: `contexts`, or `context.citations` as Azure has them."""
    told = said.get("contexts")
    if told is None and isinstance(said.get("context"), dict):
        told = said["context"].get("citations")
    found = [_passage(each) for each in told] if isinstance(told, list) else []
    return tuple(text for text in found if text)


def _passage(told: Any) -> str:
    if isinstance(told, dict):
        return text_of(told.get("text")) or text_of(told.get("content"))
    return text_of(told)
