"""Judges behind a real HTTP server, and what such a server was shown."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from openai_upstream import said

from genai.config.eval import JudgeConfig, TargetConfig
from genai.evaluation.judges.judge import Judge
from genai.evaluation.records import Answer, Chat, Example
from genai.evaluation.targets.endpoint import EndpointTarget

_SECTION = re.compile(
    r"<<<(?P<name>[A-Z][A-Z0-9 ]*) (?P<mark>[0-9a-f]{16})>>>\n(?P<text>.*?)\n<<<END \1 \2>>>", re.DOTALL
)


def judge_of(url: str, name: str = "gpt", *, attempts: int = 1, **config: Any) -> Judge:
    """A judge that asks the server at `url`; `attempts` are those of HTTP."""
    told = JudgeConfig(model="judge-model", endpoint=url, **config)
    target = TargetConfig(
        model=told.model,
        endpoint=url,
        sampling=told.sampling,
        price=told.price,
        concurrency=told.concurrency,
        timeout_s=told.timeout_s,
        max_attempts=attempts,
    )
    return Judge(name, told, EndpointTarget(name, target, section=f"judges.{name}"))


@asynccontextmanager
async def opened(*judges: Judge) -> AsyncIterator[dict[str, Judge]]:
    """Judges by name, ready to be asked."""
    async with AsyncExitStack() as stack:
        for judge in judges:
            await stack.enter_async_context(judge)
        yield {judge.name: judge for judge in judges}


def sections(body: Mapping[str, Any]) -> dict[str, str]:
    """What a server was shown: name of a section -> text between its marks."""
    text = next(message["content"] for message in body["messages"] if message["role"] == "user")
    return {match["name"]: match["text"] for match in _SECTION.finditer(text)}


def told(**verdict: Any) -> dict[str, Any]:
    """A reply with a verdict."""
    return said(json.dumps(verdict))


def example(
    question: str = "What do bees eat?",
    *,
    reference: str | None = "Honey.",
    contexts: tuple[str, ...] = (),
    name: str = "1",
) -> Example:
    """A row of a data set."""
    return Example(
        id=name,
        dataset="faq",
        kind="generation",
        question=Chat(prompt=question),
        references=() if reference is None else (reference,),
        contexts=contexts,
    )


def answer(text: str, *, contexts: tuple[str, ...] = ()) -> Answer:
    """What a target said."""
    return Answer(text=text, contexts=contexts)
