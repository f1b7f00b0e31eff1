"""An answer to a key that llm-foundry knows and we do not, and what was answered of one job file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from genai.config.tree import Key, Node, dotted
from genai.errors import Problem

Becomes = Callable[[Any], dict[str, Any] | None]
"""A value -> the keys beside it that take its place; None where it stays as it is."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What becomes of a key of llm-foundry's."""

    key: str
    """Dotted; `*` stands for any text."""
    does: Literal["no effect", "translated", "refused"]
    """How it is answered."""
    why: str
    """The reason; of a translation, what it becomes."""
    fix: str = ""
    """What to write instead of a refused one."""
    jobs: tuple[str, ...] = ("finetune", "pretrain")
    """The jobs that answer so."""
    model: str | None = None
    """The only model.name for which it holds."""
    harmless: tuple[Any, ...] = ()
    """Values that say what holds anyway: they are left out without a word."""
    becomes: Becomes | None = None
    """Makes the translation."""


def no_effect(why: str, *keys: str, jobs: tuple[str, ...] = ("finetune", "pretrain")) -> Iterator[Answer]:
    """The same answer for several keys that change nothing here."""
    return (Answer(key=key, does="no effect", why=why, jobs=jobs) for key in keys)


def refused(why: str, fix: str, *keys: str, **more: Any) -> Iterator[Answer]:
    """The same refusal for several keys."""
    return (Answer(key=key, does="refused", why=why, fix=fix, **more) for key in keys)


def translated(why: str, key: str, becomes: Becomes, *, jobs: tuple[str, ...] = ("finetune", "pretrain")) -> Answer:
    """A key that is written differently here."""
    return Answer(key=key, does="translated", why=why, becomes=becomes, jobs=jobs)


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A key that was answered."""

    key: Key
    """Where it stood."""
    node: Node
    """What was written."""
    answer: Answer
    """What became of it."""
    replacement: dict[str, Any] | None = None
    """Of a translation: the keys that took its place."""

    @property
    def problem(self) -> Problem:
        """The answer as a line about the job file."""
        path, where = dotted(self.key), self.node.origin.where()
        if self.answer.does == "refused":
            message = f"{path} is not supported: {self.answer.why}"
            return Problem(message=message, where=where, fix=self.answer.fix)
        if self.answer.does == "no effect":
            return Problem(message=f"{path} has no effect: {self.answer.why}", where=where)
        return Problem(message=f"{path} is translated: {self.answer.why}", where=where)
