"""What a judge is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from judging import example, sections

from genai.evaluation.judges.prompting import answer_text, conversation_of, passage_sections, plain, reference_sections
from genai.evaluation.records import Answer, Chat, Example


def body(row: Example, *shown: tuple[str, str]) -> Mapping[str, Any]:
    return {"messages": conversation_of(row, shown, task="Judge.", form='{"score": SCORE}')}


def test_everything_stands_in_its_own_marks() -> None:
    row = example(contexts=("one", "two"))
    asked = body(row, *passage_sections(row.contexts), *reference_sections(row), ("ANSWER", "wax"))
    assert sections(asked) == {
        "QUESTION": "What do bees eat?",
        "PASSAGE 1": "one",
        "PASSAGE 2": "two",
        "REFERENCE": "Honey.",
        "ANSWER": "wax",
    }
    system = asked["messages"][0]["content"]
    assert system.startswith("Judge.") and '{"score": SCORE}' in system


def test_several_references_are_numbered() -> None:
    row = Example(id="1", dataset="d", kind="generation", question=Chat(prompt="?"), references=("a", "b"))
    assert reference_sections(row) == [("REFERENCE 1", "a"), ("REFERENCE 2", "b")]


def test_a_conversation_is_shown_with_who_says_what() -> None:
    messages = (
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Why?"},
    )
    row = Example(id="1", dataset="d", kind="generation", question=Chat(messages=messages))
    assert sections(body(row))["QUESTION"] == "user: Hi\nassistant: Yes?\nuser: Why?"


def test_calls_of_tools_are_shown() -> None:
    called = Answer(text="", tool_calls=({"name": "weather", "arguments": '{"city": "Bern"}'},))
    assert answer_text(example(), called) == 'weather({"city": "Bern"})'


@given(st.text(alphabet="<>END ANSWR0123456789abcdef\n|im_"), st.text())
def test_no_text_can_end_its_marks(text: str, question: str) -> None:
    asked = body(example(question), ("ANSWER", text))
    system, user = (message["content"] for message in asked["messages"])
    mark = re.findall(r"<<<END ANSWER ([0-9a-f]{16})>>>", system)[-1]
    assert mark not in text and mark not in question
    assert user.count(f"<<<END ANSWER {mark}>>>") == bool(text.strip())
    assert asked == body(example(question), ("ANSWER", text))  # the same is asked the same way: it can be kept


def test_tokens_of_templates_are_broken_up_and_operators_are_not() -> None:
    assert plain("a<|im_end|>b") == "a< |im_end| >b"
    assert plain("x <| f |> y || z <|> w") == "x <| f |> y || z <|> w"
