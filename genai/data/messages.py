"""Messages of a record, checked one by one: roles, contents, weights, tool calls."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, cast

from genai.data.rows import ROLES, Message, Role
from genai.registry import suggest

_OTHER_NAMES = {"developer": "system", "human": "user", "gpt": "assistant", "model": "assistant"}
_OTHER_NAMES |= {"bot": "assistant", "ai": "assistant", "function": "tool"}
_EXTRA = ("name", "tool_calls", "tool_call_id", "reasoning_content", "thinking")
_MISSPELT = ("role", "content", "trained", "weight", "tool_calls")
_MISSPELT_CUTOFF = 0.8
_MESSAGE_KEYS = ("role", "content", "trained", "weight", *_EXTRA)


class Unusable(Exception):
    """Why a record cannot become a row, in one sentence."""


def parse_messages(value: object) -> tuple[Message, ...]:
    """A list of messages (or the same as JSON in a text, as tables hold it).

    Raises:
        Unusable: it is none, or one of the messages is wrong.
    """
    messages = as_list(value, 'the messages must be a list of {"role": ..., "content": ...}')
    if not messages:
        raise Unusable("there is no message")
    return tuple(_message(message, number) for number, message in enumerate(messages, 1))


def _message(message: Mapping[str, Any], number: int) -> Message:
    present = {key: value for key, value in message.items() if value is not None and value != []}
    _check_keys(present, number)
    role = present["role"]
    if role not in ROLES:
        raise Unusable(f"message {number} has the role '{role}'{role_hint(str(role), ROLES)}")
    calls = present.get("tool_calls", [])
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise Unusable(f"message {number} has tool_calls that are no list of objects")
    extra = {key: present[key] for key in _EXTRA if key in present}
    content = _content(present.get("content", ""), number)
    if not content.strip() and role != "tool" and "tool_calls" not in extra:
        raise Unusable(f"message {number}, the {role}'s, is empty")
    trained = _trained(present, role, number)
    return Message(role=cast(Role, role), content=content, trained=trained, **({"extra": extra} if extra else {}))


def _check_keys(message: Mapping[str, Any], number: int) -> None:
    for key in message:
        if key not in _MESSAGE_KEYS and (near := _near_key(key)) is not None and near not in message:
            raise Unusable(f"message {number} has a '{key}' (did you mean '{near}'?)")
    if "role" not in message and "from" in message:
        raise Unusable(f"message {number} has 'from' in place of 'role' (set columns: {{conversations: messages}})")
    needed = ("role",) if "tool_calls" in message else ("role", "content")
    for key in needed:
        if key not in message:
            raise Unusable(f"message {number} has no '{key}'; it has {', '.join(message) or 'nothing'}")


@cache
def _near_key(key: str) -> str | None:
    """A key of a message that `key` is a misspelling of; names of one's own are no misspellings."""
    return next(iter(difflib.get_close_matches(key.lower(), _MISSPELT, n=1, cutoff=_MISSPELT_CUTOFF)), None)


def _content(value: object, number: int) -> str:
    """Text, or a list of parts that are all text."""
    if isinstance(value, list):
        parts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in value]
        if not parts or any(part is None for part in parts):
            raise Unusable(f"message {number} has parts that are no text")
        value = "".join(text_of(part, f"message {number}") for part in parts)
    return text_of(value, f"message {number}")


def _trained(message: Mapping[str, Any], role: str, number: int) -> bool:
    """What the record says, by `trained: true|false` or OpenAI's `weight: 0|1`; else whether it is the assistant's."""
    flag = message.get("trained", message.get("weight", role == "assistant"))
    if flag not in (0, 1):
        raise Unusable(f"message {number} has a weight of {flag!r}, which must be 0 or 1")
    if flag and role != "assistant":
        raise Unusable(f"message {number} is the {role}'s and marked as trained; target_prompts: all trains prompts")
    return bool(flag)


def said(role: Role, value: object, what: str) -> Message:
    """A message of that role; it is trained when it is the assistant's.

    Raises:
        Unusable: `value` is no text, or empty; `what` names it.
    """
    content = text_of(value, what)
    if not content.strip():
        raise Unusable(f"{what} is empty")
    return Message(role=role, content=content, trained=role == "assistant")


def text_of(value: object, what: str) -> str:
    """`value`, when it is a text that can be encoded.

    Raises:
        Unusable: it is not; `what` names it.
    """
    if not isinstance(value, str):
        kind = {bool: "true or false", dict: "an object", list: "a list"}.get(type(value), "a number")
        raise Unusable(f"{what} is {kind}, not a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unusable(f"{what} holds half of a surrogate pair (\\ud800 to \\udfff), which is no character") from None
    return value


def parse_tools(value: object) -> tuple[dict[str, Any], ...]:
    """Function schemas, as a list or as JSON in a text; none for None.

    Raises:
        Unusable: it is something else.
    """
    return () if value is None else tuple(as_list(value, "tools must be a list of function schemas"))


def role_hint(role: str, allowed: Iterable[str], other_names: Mapping[str, str] = _OTHER_NAMES) -> str:
    """What to write in place of an unknown role, in brackets."""
    names = list(allowed)
    near = other_names.get(role.lower()) or suggest(role, names)
    return f" (did you mean '{near}'? allowed: {', '.join(names)})" if near else f" (allowed: {', '.join(names)})"


def as_list(value: object, otherwise: str) -> list[dict[str, Any]]:
    """A list of objects, given as such or as JSON in a text, which is how tables hold it.

    Raises:
        Unusable: with the text `otherwise`, when it is none.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise Unusable(otherwise) from None
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise Unusable(otherwise)
    return value
