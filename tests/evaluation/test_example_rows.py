"""Rows of each kind: what they become, what is missing, what cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from genai.config.eval import DatasetConfig
from genai.data.messages import Unusable
from genai.data.readers import Record
from genai.evaluation.example_rows import Contradiction, RowReader, join_texts, missing_columns
from genai.evaluation.records import Chat, Continuations, Example, Query, WholeText
from genai.evaluation.templates import parse

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def read(values: dict[str, Any], **settings: Any) -> Example:
    config = DatasetConfig(name="faq", path="faq.jsonl", **settings)
    template = None if config.prompt is None else parse(config.prompt)
    reader = RowReader(config=config, template=template)
    return reader.read(Record(values=values, source="faq.jsonl:1"))


# --- answers ----------------------------------------------------------------------------------------------------------


def test_a_prompt_and_its_answer() -> None:
    example = read({"id": 3, "q": "Why?", "a": "Because."}, columns={"prompt": "q", "reference": "a"})
    assert example == Example(
        id="3", dataset="faq", kind="generation", question=Chat(prompt="Why?"), references=("Because.",)
    )


def test_what_the_data_set_says_of_answers() -> None:
    schema = {"type": "object"}
    example = read({"prompt": "Why?"}, max_tokens=9, stop=["\n"], json_schema=schema)
    assert example.question == Chat(prompt="Why?", max_tokens=9, stop=("\n",), json_schema=schema)
    assert example.references == ()


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("one", ("one",)),
        (["one", "two"], ("one", "two")),
        (5, ("5",)),
        (True, ("true",)),
        ({"a": [1]}, ('{"a": [1]}',)),
        ([{"a": 1}], ('[{"a": 1}]',)),
        ("", ()),
        (None, ()),
    ],
)
def test_references(reference: Any, expected: tuple[str, ...]) -> None:
    assert read({"prompt": "Why?", "reference": reference}).references == expected


def test_a_template_stands_for_the_prompt() -> None:
    example = read({"question": "Why?", "messages": "not looked at"}, prompt="Briefly: {question}")
    assert example.question == Chat(prompt="Briefly: Why?")


def test_the_last_words_of_the_assistant_are_the_right_ones() -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "Because."},
    ]
    example = read({"messages": turns})
    assert example.question == Chat(messages=tuple(turns[:2]))
    assert example.references == ("Because.",)


def test_with_a_reference_a_conversation_is_asked_as_it_is() -> None:
    turns = [{"role": "user", "content": "Why?"}]
    example = read({"messages": turns, "reference": "So."})
    assert (example.question, example.references) == (Chat(messages=tuple(turns)), ("So.",))


@pytest.mark.parametrize("turns", [[], [{"role": "assistant", "content": "Hello."}], "no messages"])
def test_conversations_that_ask_nothing(turns: Any) -> None:
    with pytest.raises(Unusable):
        read({"messages": turns})


@pytest.mark.parametrize(
    "calls",
    [
        [{"name": "weather", "arguments": {"city": "Lund"}}],
        {"name": "weather", "arguments": '{"city": "Lund"}'},
        '[{"type": "function", "function": {"name": "weather", "arguments": "{\\"city\\": \\"Lund\\"}"}}]',
    ],
)
def test_calls_that_are_right(calls: Any) -> None:
    example = read({"prompt": "Is it raining?", "tools": [WEATHER], "reference": calls})
    assert example.expected_tools == ({"name": "weather", "arguments": {"city": "Lund"}},)
    assert example.references == ()
    assert isinstance(example.question, Chat)
    assert example.question.tools == (WEATHER,)


def test_calls_of_the_assistant_in_a_conversation() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    turns = [{"role": "user", "content": "Rain?"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    example = read({"messages": turns, "tools": [WEATHER]})
    assert example.expected_tools == ({"name": "weather", "arguments": {}},)
    assert example.references == ()


def test_with_tools_an_answer_may_be_a_text() -> None:
    example = read({"prompt": "Thanks!", "tools": [WEATHER], "reference": "You are welcome."})
    assert (example.expected_tools, example.references) == ((), ("You are welcome.",))


@pytest.mark.parametrize(("label", "expected"), [("spam", "spam"), (1, "1"), (False, "false"), (" ham ", "ham")])
def test_labels(label: Any, expected: str) -> None:
    example = read({"prompt": "Buy!", "label": label}, kind="classification")
    assert example.references == (expected,)


@pytest.mark.parametrize("label", [None, "", ["a"]])
def test_what_is_no_label(label: Any) -> None:
    with pytest.raises(Unusable, match="label"):
        read({"prompt": "Buy!", "label": label}, kind="classification")


# --- likelihoods, searches --------------------------------------------------------------------------------------------


def test_whole_texts() -> None:
    example = read({"text": "Once upon a time."}, kind="text")
    assert example.question == WholeText(text="Once upon a time.")


@pytest.mark.parametrize("choices", [["Lund", " Ystad"], '["Lund", " Ystad"]'])
@pytest.mark.parametrize("gold", [1, "1", 1.0])
def test_choices(choices: Any, gold: Any) -> None:
    example = read({"query": "Where?", "choices": choices, "gold": gold}, kind="multiple_choice")
    assert example.question == Continuations(pairs=(("Where?", " Lund"), ("Where?", " Ystad")))
    assert (example.gold, example.references) == (1, (" Ystad",))


@pytest.mark.parametrize("gold", [2, -1, "x", None, True, 0.5])
def test_a_right_choice_that_is_none(gold: Any) -> None:
    with pytest.raises(Contradiction, match="gold"):
        read({"query": "Where?", "choices": ["a", "b"], "gold": gold}, kind="multiple_choice")


@pytest.mark.parametrize("choices", [["a"], "a", None, [1, 2]])
def test_choices_that_are_none(choices: Any) -> None:
    with pytest.raises(Unusable):
        read({"query": "Where?", "choices": choices, "gold": 0}, kind="multiple_choice")


def test_continuations() -> None:
    example = read({"context": "Twelve and", "continuation": "three"}, kind="language_modeling")
    assert example.question == Continuations(pairs=(("Twelve and", " three"),))
    assert (example.gold, example.references) == (0, ("three",))


def test_schemas() -> None:
    options = ["The trophy does not fit, because the trophy", "The trophy does not fit, because the case"]
    example = read({"context_options": options, "continuation": "is too big.", "gold": 0}, kind="schema")
    assert example.question == Continuations(pairs=tuple((option, " is too big.") for option in options))


@pytest.mark.parametrize(
    ("relevant", "expected"),
    [(["a", 2], {"a": 1.0, "2": 1.0}), ('["a"]', {"a": 1.0}), ({"a": 2, "b": 0}, {"a": 2.0}), ("a", {"a": 1.0})],
)
def test_searches(relevant: Any, expected: dict[str, float]) -> None:
    example = read({"query": "screed", "relevant": relevant}, kind="retrieval")
    assert (example.question, example.relevant) == (Query(text="screed", k=1), expected)


@pytest.mark.parametrize("relevant", [[], None, {}, {"a": "high"}])
def test_nothing_to_be_found(relevant: Any) -> None:
    with pytest.raises(Unusable, match="relevant"):
        read({"query": "screed", "relevant": relevant}, kind="retrieval")


@pytest.mark.parametrize(
    ("context", "continuation", "expected"),
    [
        ("a", "b", "a b"),
        ("a ", "b", "a b"),
        ("a", "\nb", "a\nb"),
        ("", "b", "b"),
        ("a\n", "b", "a\nb"),
    ],
)
def test_one_blank_stands_between(context: str, continuation: str, expected: str) -> None:
    assert "".join(join_texts(context, continuation)) == expected


# --- beside the question ----------------------------------------------------------------------------------------------


def test_slices_clusters_contexts_and_marks() -> None:
    values = {"prompt": "Why?", "topic": "floors", "year": 1950, "page": 7, "contexts": '["one", "two"]'}
    example = read({**values, "synthetic": "true"}, slices=["topic", "year", "gone"], cluster="page")
    assert example.slices == {"topic": "floors", "year": "1950", "gone": ""}
    assert (example.cluster, example.contexts, example.synthetic) == ("7", ("one", "two"), True)
    assert not read(values).synthetic
    assert read(values, synthetic=True).synthetic
    assert read({"prompt": "Why?", "page": None}, cluster="page").cluster is None


def test_ids() -> None:
    assert read({"prompt": "Why?", "key": " k1 "}, columns={"id": "key"}).id == "k1"
    made = read({"prompt": "Why?", "n": 1}).id
    assert len(made) == 16
    assert made == read({"n": 1, "prompt": "Why?"}).id != read({"prompt": "Why?", "n": 2}).id
    for value in (None, "", True, ["a"]):
        with pytest.raises(Unusable, match="'id' names nothing"):
            read({"prompt": "Why?", "id": value})


@pytest.mark.parametrize(
    ("kind", "values", "reason"),
    [
        ("generation", {"reference": "x"}, "'prompt' is missing"),
        ("generation", {"prompt": "  "}, "'prompt' is empty"),
        ("generation", {"prompt": 5}, "'prompt' is a number"),
        ("text", {"text": None}, "'text' is missing"),
        ("language_modeling", {"context": "a"}, "'continuation' is missing"),
    ],
)
def test_rows_that_lack_something(kind: Any, values: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        read(values, kind=kind)


def test_columns_that_a_kind_needs() -> None:
    config = DatasetConfig(name="x", path="x", kind="multiple_choice")
    assert missing_columns(["query", "gold"], config) == [("choices",)]
    generation = DatasetConfig(name="x", path="x")
    assert missing_columns(["q"], generation) == [("prompt", "messages")]
    assert missing_columns(["messages"], generation) == []
    assert missing_columns(["q"], DatasetConfig(name="x", path="x", prompt="{q}")) == []
