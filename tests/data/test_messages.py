"""Messages: the parts that are used beyond the row formats."""

from __future__ import annotations

import pytest

from genai.data.messages import Unusable, as_list, parse_messages, parse_tools, role_hint, said, text_of
from genai.data.rows import Message


def test_parse_messages() -> None:
    assert parse_messages([{"role": "user", "content": "How?", "name": None, "weight": 0}]) == (
        Message(role="user", content="How?"),
    )


def test_said() -> None:
    assert said("assistant", "So.", "the answer") == Message(role="assistant", content="So.", trained=True)
    with pytest.raises(Unusable, match="the answer is empty"):
        said("assistant", "\n", "the answer")


@pytest.mark.parametrize(
    ("value", "kind"), [(1, "a number"), (True, "true or false"), ({}, "an object"), ([], "a list"), (1.5, "a number")]
)
def test_text_of(value: object, kind: str) -> None:
    with pytest.raises(Unusable, match=f"it is {kind}, not a text"):
        text_of(value, "it")
    assert text_of("å 🙂", "it") == "å 🙂"


def test_lists_of_objects() -> None:
    assert as_list('[{"a": 1}]', "no") == [{"a": 1}]
    for value in ("[1]", "{", {"a": 1}, None, 3):
        with pytest.raises(Unusable, match="no"):
            as_list(value, "no")
    assert parse_tools(None) == ()
    assert parse_tools([{"name": "x"}]) == ({"name": "x"},)


def test_role_hints() -> None:
    assert role_hint("gpt", ["user", "assistant"]) == " (did you mean 'assistant'? allowed: user, assistant)"
    assert role_hint("gpt", ["user", "assistant"], {}) == " (allowed: user, assistant)"
