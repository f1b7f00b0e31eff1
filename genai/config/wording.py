"""How messages quote what the user wrote: on one line, short, without control characters and never with a secret."""

from __future__ import annotations

import json

from genai.config.secrets import masked
from genai.config.tree import Key, Node, dotted

MAX_CHARACTERS = 60


def quotable(text: str) -> str:
    """A word, key or path of the user's, fit to stand in a message."""
    text = "".join(char if char.isprintable() else "?" for char in masked(text))
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 3]}..."


def key_name(key: Key) -> str:
    """A key as it is named in a message."""
    return quotable(dotted(key))


def value_name(node: Node) -> str:
    """A value as it is named in a message: numbers as typed, text in quotes, sections and lists by what they are."""
    if isinstance(node.value, dict):
        return "a section"
    if isinstance(node.value, list):
        return f"a list of {len(node.value)}"
    if isinstance(node.value, str):
        return f"'{quotable(node.value)}'"
    return node.raw or json.dumps(node.value)
