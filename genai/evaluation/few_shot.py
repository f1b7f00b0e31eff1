"""Solved examples before a question.

Conversations get them as turns, all others as texts: each one a context and what is right, an empty line between them,
as lm-eval does it by default (`fewshot_delimiter`). Which ones are shown depends on the seed and their own ids alone:
all questions begin alike, and the prefix cache of a server helps. A question's own row is never shown to it, nor one of
its cluster, nor one that asks the same. Calls of functions are not shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from genai.evaluation.example_rows import join_texts
from genai.evaluation.records import Chat, Continuations, Example, Question

DELIMITER = "\n\n"
"""Between two texts."""


def with_shots(examples: Sequence[Example], pool: Sequence[Example], *, num: int, seed: int) -> list[Example]:
    """The examples with solved ones before each question.

    Args:
        examples: what is asked; conversations, prompts or continuations.
        pool: what may be shown; those without a right answer are passed over.
        num: how many are shown.
        seed: which.

    Raises:
        ValueError: the pool is too small for some question.
    """
    ordered = sorted((each for each in pool if is_solved(each)), key=lambda each: place_of(each.id, seed))
    return [replace(each, question=_before(_shots_for(each, ordered, num), each.question)) for each in examples]


def is_solved(example: Example) -> bool:
    """Whether an example has a right answer that can be shown."""
    return bool(example.references) and isinstance(example.question, Chat | Continuations)


def place_of(id_: str, seed: int) -> bytes:
    """Where an example comes in the order of a seed; depends on nothing but both."""
    return hashlib.sha256(f"{seed}:{id_}".encode("utf-8", "surrogatepass")).digest()


def _shots_for(example: Example, ordered: Sequence[Example], num: int) -> list[Example]:
    shots: list[Example] = []
    for other in ordered:
        if len(shots) == num:
            break
        related = other.id == example.id or (other.cluster is not None and other.cluster == example.cluster)
        if not related and other.question != example.question:
            shots.append(other)
    if len(shots) < num:
        raise ValueError(f"{len(shots)} solved examples are there for '{example.id}', {num} are wanted")
    return shots


def _before(shots: Sequence[Example], question: Question) -> Question:
    if isinstance(question, Chat) and question.messages:
        return replace(question, messages=_turns_before(shots, question.messages))
    prefix = "".join(_solved(shot) + DELIMITER for shot in shots)
    if isinstance(question, Chat):
        return replace(question, prompt=prefix + (question.prompt or ""))
    if isinstance(question, Continuations):
        return replace(question, pairs=tuple((prefix + context, text) for context, text in question.pairs))
    raise ValueError("a whole text and a search have no solved examples")


def _solved(shot: Example) -> str:
    """Context and right answer as one text."""
    if isinstance(shot.question, Continuations):
        return "".join(shot.question.pairs[shot.gold or 0])
    assert isinstance(shot.question, Chat)
    return "".join(join_texts(shot.question.prompt or "", shot.references[0]))


def _turns_before(shots: Sequence[Example], messages: tuple[Mapping[str, Any], ...]) -> tuple[Mapping[str, Any], ...]:
    num_system = sum(1 for message in messages if message["role"] == "system")
    turns: list[Mapping[str, Any]] = []
    for shot in shots:
        assert isinstance(shot.question, Chat)
        asked = shot.question.messages or ({"role": "user", "content": shot.question.prompt or ""},)
        turns += [message for message in asked if message["role"] != "system"]
        turns.append({"role": "assistant", "content": shot.references[0]})
    return (*messages[:num_system], *turns, *messages[num_system:])
