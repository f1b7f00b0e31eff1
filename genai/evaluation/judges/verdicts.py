"""From what a judge writes to what it says, or to the reason why nothing can be read from it.

Nothing is guessed: two verdicts in one answer, a score beyond the scale or half an object are no verdict.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_MAX_CHARACTERS = 100_000
"""Of an answer that are looked at: its last ones, where the verdict stands."""
_THOUGHT_END = re.compile(r"</think>", re.IGNORECASE)
_THOUGHT_START = re.compile(r"<think>", re.IGNORECASE)
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
_BEGIN = re.compile(r'\{\s*"')
_MAX_FAULTS = 100
"""So many things that begin like an object and are none end the search: each costs time."""


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if any(values[key] != value for key, value in pairs):
        raise ValueError("a key stands there twice, with different values")
    return values


_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_each_key_once)


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """An answer without a verdict in it."""

    reason: str
    """What is wrong with it, in words that the judge is told before it is asked again."""


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What one judge says of one thing."""

    value: float | None
    """0 (worst) to 1; None where there is nothing to be judged, as of an answer that claims nothing."""
    reason: str = ""
    """In the judge's words, or in figures."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """The score as it was given, the claims that were looked at, ..."""


def read_object(text: str, keys: Collection[str], *, shown: str = "") -> dict[str, Any] | Unreadable:
    """The JSON object with these keys in a judge's answer, whatever stands around it: prose, fences, thoughts.

    Args:
        text: the whole answer.
        keys: what the object must have; others are let be.
        shown: what the judge was shown. An object that stands there is no verdict where the judge quotes it in prose:
            an answer that is judged may hold one.

    Returns:
        The object; or why there is none: nothing like it, or several that say different things.
    """
    said = text[-_MAX_CHARACTERS:].strip()
    if whole := _whole(said, keys):
        return whole
    answer = _without_thoughts(said)
    if answer is None:
        return Unreadable(reason="your answer ends before your thoughts do")
    if whole := _whole(_unfenced(answer), keys):
        return whole
    squeezed = _squeezed(shown)
    found = [value for value, source in _with_keys(answer, keys) if _squeezed(source) not in squeezed]
    if not found:
        return Unreadable(reason=f"there is no JSON object with {_listed(keys)} in it")
    if any(other != found[0] for other in found[1:]):
        return Unreadable(reason="it holds several JSON objects that say different things")
    return found[0]


def read_score(value: object, scale: tuple[int, int]) -> int | Unreadable:
    """A whole number of a scale; nothing is rounded or moved into it.

    Args:
        value: 4, 4.0 or "4".
        scale: lowest and highest.
    """
    low, high = scale
    score = _whole_number(value)
    if score is None:
        return Unreadable(reason=f"the score is no whole number from {low} to {high}")
    if not low <= score <= high:
        return Unreadable(reason=f"the score {score} does not lie between {low} and {high}")
    return score


def read_choice(value: object, choices: Collection[str]) -> str | Unreadable:
    """One of a few words; capital letters make no difference."""
    said = value.strip().lower() if isinstance(value, str) else None
    chosen = next((choice for choice in choices if choice.lower() == said), None)
    return Unreadable(reason=f"the verdict is none of {_listed(choices)}") if chosen is None else chosen


def read_flags(said: Mapping[str, Any], names: Collection[str]) -> list[bool] | Unreadable:
    """True or false of each of several things, in their order.

    Args:
        said: name -> verdict.
        names: of the things, each of which must be there.
    """
    flags = [said.get(name) for name in names]
    if unclear := [name for name, flag in zip(names, flags, strict=True) if not isinstance(flag, bool)]:
        return Unreadable(reason=f"{_listed(unclear)} must be true or false")
    return [flag is True for flag in flags]


def text_of(value: object) -> str:
    """A judge's reason on one line; empty where it gave none."""
    return " ".join(value.split()) if isinstance(value, str) else ""


def _whole_number(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,6}\s*", value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _without_thoughts(text: str) -> str | None:
    """What is said after thinking aloud; None where the thinking does not end."""
    text = _THOUGHT_END.split(text)[-1]
    return None if _THOUGHT_START.search(text) else text.strip()


def _unfenced(text: str) -> str:
    """A text without the fence of Markdown that it begins and ends with."""
    if not (text.startswith("```") and text.endswith("```") and len(text) > 6):
        return text
    return text[3:-3].removeprefix("json").strip()


def _squeezed(text: str) -> str:
    """Without white space, which a judge may change when it quotes."""
    return "".join(text.split())


def _whole(text: str, keys: Collection[str]) -> dict[str, Any] | None:
    """A text that is one object and nothing else, but for a comma too many."""
    for attempt in (text, _TRAILING_COMMA.sub(r"\1", text)):
        try:
            value = _DECODER.decode(attempt)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and all(key in value for key in keys):
            return value
    return None


def _with_keys(text: str, keys: Collection[str]) -> list[tuple[dict[str, Any], str]]:
    """The outermost objects with these keys, each as it is written too; with a comma too many where there is none."""
    for attempt in (text, _TRAILING_COMMA.sub(r"\1", text)):
        if found := [each for each in _objects(attempt) if all(key in each[0] for key in keys)]:
            return found
    return []


def _objects(text: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Every outermost JSON object in a text, as long as there are not too many false beginnings."""
    end, faults = 0, 0
    while faults < _MAX_FAULTS and (begin := _BEGIN.search(text, end)):
        start = begin.start()
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
            faults += 1
        else:
            yield value, text[start:end]


def _listed(words: Collection[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)
