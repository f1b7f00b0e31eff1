from __future__ import annotations

import pytest

from genai.config.tree import Node, Origin
from genai.config.wording import key_name, quotable, value_name

FILE = Origin("file", "job.yaml")


def test_a_quoted_word_is_short_printable_and_no_secret() -> None:
    assert quotable("plain å") == "plain å"
    assert quotable("a\x1b[31m\nb") == "a?[31m?b"
    assert quotable("x" * 100) == "x" * 57 + "..."
    assert quotable("hf_" + "a1" * 17) == "***"


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (Node(3.1, FILE, raw="3.10"), "3.10"),
        (Node(3.1, FILE), "3.1"),
        (Node(None, FILE, raw=""), "null"),
        (Node(True, FILE), "true"),
        (Node("fast", FILE, raw="fast"), "'fast'"),
        (Node({}, FILE), "a section"),
        (Node([Node(1, FILE)], FILE), "a list of 1"),
        (Node("ghp_" + "a" * 36, FILE), "'***'"),
    ],
)
def test_values_are_named_as_typed(node: Node, text: str) -> None:
    assert value_name(node) == text


def test_a_key_is_named_with_dots() -> None:
    assert key_name(("a", 0, "b\n")) == "a.0.b?"
