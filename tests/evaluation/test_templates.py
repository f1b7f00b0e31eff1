"""Templates: columns are put in, braces that are none are refused, and nothing is run."""

from __future__ import annotations

import pytest

from genai.data.messages import Unusable
from genai.errors import UsageError
from genai.evaluation.templates import parse


@pytest.mark.parametrize(
    ("template", "values", "expected"),
    [
        ("Answer in one word: {question}", {"question": "Why?"}, "Answer in one word: Why?"),
        ("{a}{b}{a}", {"a": "1", "b": "2"}, "121"),
        ("no column", {}, "no column"),
        ('{{"answer": {n}}}', {"n": 3}, '{"answer": 3}'),
        ("{ question }", {"question": "Why?"}, "Why?"),
        ("{year built}", {"year built": 1950}, "1950"),
        ("{q}", {"q": "{secret} {{x}}"}, "{secret} {{x}}"),
        ("{passages}", {"passages": ["one", "two"]}, "one\n\ntwo"),
        ("{row}", {"row": {"größe": [1, None]}}, '{"größe": [1, null]}'),
        ("{q.__class__}", {"q.__class__": "a column like any other"}, "a column like any other"),
    ],
)
def test_what_is_put_in(template: str, values: dict[str, object], expected: str) -> None:
    assert parse(template).fill(values) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a } b", "closes a brace that was not opened (character 3)"),
        ("a {b", "opens a brace around no column (character 3)"),
        ("{}", "opens a brace around no column (character 1)"),
        ('{"answer": {q}}', "opens a brace around no column (character 1)"),
    ],
)
def test_braces_that_are_no_columns(template: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(template)
    assert message in refused.value.message
    assert refused.value.fix == "write {{ and }} for braces that stay"


@pytest.mark.parametrize("value", [None, ""])
def test_an_empty_column_makes_a_row_unusable(value: str | None) -> None:
    with pytest.raises(Unusable, match="'question' is empty"):
        parse("{question}").fill({"question": value})


def test_columns_that_do_not_exist() -> None:
    template = parse("{question} {topic} {question}")
    assert template.columns == ("question", "topic")
    template.check(["topic", "question"])
    with pytest.raises(UsageError) as near:
        template.check(["questions", "topic"])
    assert near.value.fix == "did you mean '{questions}'?"
    with pytest.raises(UsageError) as far:
        template.check(["x"])
    assert far.value.fix == "the columns are: x; write {{ and }} for braces that stay"


@pytest.mark.parametrize("attack", ["{0}", "{q.__class__}", "{q!r}", "{q:>9999999}", "{q[0]}"])
def test_format_specifications_are_no_columns(attack: str) -> None:
    with pytest.raises(UsageError, match="which the rows do not have"):
        parse(attack).check(["q"])
