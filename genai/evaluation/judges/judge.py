"""A model that is asked for verdicts, and asked again for those that cannot be read."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from genai.config.eval import JudgeConfig
from genai.errors import UsageError
from genai.evaluation.costing import add
from genai.evaluation.interfaces import Target
from genai.evaluation.judges.verdicts import Opinion, Unreadable, read_object
from genai.evaluation.records import Answer, Chat, Failure, Outcome, Unscored, Usage
from genai.log import get_logger

_MAX_REPEATED_CHARACTERS = 2000
"""Of an answer that could not be read, when it is shown to the judge again."""
_REFUSED = re.compile(r"HTTP (?:400|415|422)\b")
"""What servers say to a response_format that they do not know."""
_AGAIN = "That could not be read: {reason}. Reply with the JSON object and nothing else, and keep it short."
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a judge is asked, and how its reply is read."""

    messages: tuple[Mapping[str, Any], ...]
    """In OpenAI's form."""
    json_schema: Mapping[str, Any]
    """Of the reply: an object."""
    read: Callable[[Mapping[str, Any]], Opinion | Unreadable]
    """From the object of the reply, which has all required keys."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """An opinion, and what it took."""

    opinion: Opinion
    attempts: int
    """How often the judge was asked."""
    usage: Usage
    """Of all attempts."""


class Judge:
    """A model that scores answers. An async context manager: opening it opens the model.

    Args:
        name: by which metrics know it, and results.
        config: how it is asked.
        target: what is asked.

    Raises:
        UsageError: the scale has no two scores.
    """

    def __init__(self, name: str, config: JudgeConfig, target: Target) -> None:
        if config.scale[0] >= config.scale[1]:
            raise UsageError(
                f"the scale of judge '{name}' goes from {config.scale[0]} to {config.scale[1]}",
                fix="put the worst score first: scale: [1, 5]",
            )
        self.name = name
        self.config = config
        self.target = target
        self._slots: asyncio.Semaphore | None = None
        self._takes_schema: bool | None = None
        self._usage = Usage()

    @property
    def scale(self) -> tuple[int, int]:
        """Worst and best score."""
        return self.config.scale

    @property
    def usage(self) -> Usage:
        """All that its verdicts took; those that were taken from an earlier run cost nothing."""
        return self._usage

    @property
    def fingerprint(self) -> str:
        """sha256, in hex, of model, sampling and scale; the prompts have one of their own (`JudgedMetric`)."""
        config = self.config
        parts = {
            "model": config.model,
            "endpoint": config.endpoint,
            "target": self.target.fingerprint,
            "sampling": asdict(config.sampling),
            "scale": list(config.scale),
            "max_attempts": config.max_attempts,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    async def __aenter__(self) -> Judge:
        self._slots = asyncio.Semaphore(self.config.concurrency)
        await self.target.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.target.__aexit__(*error)
        self._slots = None

    async def ask(self, request: Request) -> Verdict | Unscored:
        """A verdict, or why there is none: no answer, or none that can be read in `max_attempts`. Never a guess.

        Raises:
            GenaiError: the target fails for all questions alike.
        """
        assert self._slots is not None, "a judge is asked inside `async with judge:`"
        async with self._slots:
            return await self._ask(request)

    async def _ask(self, request: Request) -> Verdict | Unscored:
        messages, usage = request.messages, Usage()
        for attempt in range(1, self.config.max_attempts + 1):
            outcome = await self._answer(messages, request.json_schema)
            usage = add(usage, _of(outcome))
            if not isinstance(outcome, Answer):
                what = outcome.reason if isinstance(outcome, Failure) else "it gave no text"
                return self._none(what, usage)
            opinion = _read(outcome, request)
            if isinstance(opinion, Opinion):
                self._usage = add(self._usage, usage)
                return Verdict(opinion=opinion, attempts=attempt, usage=usage)
            messages = _asked_again(request.messages, outcome.text, opinion.reason)
        times = f"{self.config.max_attempts} attempts" if self.config.max_attempts > 1 else "one attempt"
        return self._none(f"no verdict in {times}, at last: {opinion.reason}", usage)

    def _none(self, reason: str, usage: Usage) -> Unscored:
        self._usage = add(self._usage, usage)
        return Unscored(reason=f"judge '{self.name}': {reason}", usage=usage)

    async def _answer(self, messages: tuple[Mapping[str, Any], ...], schema: Mapping[str, Any]) -> Outcome:
        """With the schema, as long as the server has not refused one that it answers without."""
        if self._takes_schema is not False:
            outcome = await self.target.ask(Chat(messages=messages, json_schema=schema))
            if isinstance(outcome, Answer):
                self._takes_schema = True
            if self._takes_schema or not isinstance(outcome, Failure) or not _REFUSED.search(outcome.reason):
                return outcome
        plain = await self.target.ask(Chat(messages=messages))
        if self._takes_schema is None and isinstance(plain, Answer):
            self._takes_schema = False
            _log.info("judge '%s': its server takes no response_format; verdicts are asked for in words", self.name)
        return plain


def _of(outcome: Outcome) -> Usage:
    """What an outcome took in this run."""
    is_cached = not isinstance(outcome, Failure) and outcome.cached
    return Usage() if is_cached else outcome.usage


def _read(answer: Answer, request: Request) -> Opinion | Unreadable:
    shown = str(request.messages[-1]["content"])
    values = read_object(answer.text, request.json_schema["required"], shown=shown)
    said = values if isinstance(values, Unreadable) else request.read(values)
    if isinstance(said, Unreadable) and answer.finish_reason == "length":
        return Unreadable(reason=f"{said.reason}, because it is too long and was cut off")
    return said


def _asked_again(messages: tuple[Mapping[str, Any], ...], answer: str, reason: str) -> tuple[Mapping[str, Any], ...]:
    said, again = answer.strip()[:_MAX_REPEATED_CHARACTERS], _AGAIN.format(reason=reason)
    if said:
        return (*messages, {"role": "assistant", "content": said}, {"role": "user", "content": again})
    last = messages[-1]  # servers refuse an empty message, and templates two of one role in a row
    return (*messages[:-1], {**last, "content": f"{last['content']}\n\n{again}"})
