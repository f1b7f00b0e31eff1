from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.embedding.tuning.synthetic.answers import Rejected, first_line, normalised, parse_query, parse_verdict

PASSAGE = (
    "The screed is sixty millimetres thick under all the tiles. Who signs the protocol of the inspection? The owner."
)


def parse(answer: str, style: Any = "question") -> str | Rejected:
    return parse_query(answer, style=style, passage=PASSAGE)


@pytest.mark.parametrize(
    "answer",
    [
        "How thick is the screed?",
        " How thick is the screed?\n\nText: Next.\nQuestion: And?",
        "\n\nQuestion: How thick is the screed?",
        "1. How thick is the screed?\n2. What is below?",
        "1) **How thick is the screed?**",
        '- "How thick is the screed?"',
        "\u201cHow thick is the screed?\u201d",
        "Query: 'How thick is the screed?'",
        "Q1: How thick is the screed?",
        "Sure! Here is a question:\nHow thick is the screed?",
        "<think>The text is about\nscreed?</think>\nHow thick is the screed?",
        "```\nHow thick is the screed?\n```",
        "How thick is the screed? It is sixty millimetres.",
        "How  thick\tis the \x1b[31mscreed?",
        "## Question: How thick is the screed?",
        "Here is a question: How thick is the screed?",
    ],
)
def test_a_question_is_found(answer: str) -> None:
    assert parse(answer) == "How thick is the screed?"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "no answer"),
        ("   \n ", "no answer"),
        ("...", "no answer"),
        ("Question:", "no answer"),
        ("<think>How thick is it?", "no answer"),
        ("I'm sorry, but I cannot help with that?", "refused"),
        ("As an AI language model, what can I do?", "refused"),
        ("Who signs the protocol of the inspection?", "copied from the passage"),
        ("The screed is sixty millimetres thick", "copied from the passage"),
        ("why " * 41 + "?", "too long"),
        ("Wh" + "y" * 300 + "?", "too long"),
        ("a?", "too short"),
        ("The thickness of the screed.", "no question"),
        ("What is the answer to this question?", "speaks of the text"),
        ("What does the text say about screed?", "speaks of the text"),
        ("How often can I extend the loan of a book?", "an example of the prompt"),
    ],
)
def test_no_question(answer: str, reason: str) -> None:
    parsed = parse(answer)
    assert isinstance(parsed, Rejected)
    assert parsed.reason == reason


@pytest.mark.parametrize(
    ("answer", "keywords"),
    [
        ("screed thickness tiles", "screed thickness tiles"),
        ("Keywords: screed, thickness, tiles.", "screed thickness tiles"),
        ("screed; thickness; Screed; tiles, tiles, tiles", "screed thickness tiles"),
        ("* screed / tiles | thickness", "screed tiles thickness"),
        ("Search terms: DIN 18560 screed", "DIN 18560 screed"),
        ("PBL 9 kap. 27 thickness", "PBL 9 kap. 27 thickness"),
    ],
)
def test_keywords_are_found(answer: str, keywords: str) -> None:
    assert parse(answer, "keywords") == keywords


@pytest.mark.parametrize(
    ("answer", "style", "reason"),
    [
        ("How thick is the screed?", "keywords", "a question, not keywords"),
        ("one two three four five six seven eight nine ten eleven", "keywords", "too long"),
        ("one two three four five six", "terse", "too long"),
        ("screed is sixty millimetres thick under", "keywords", "copied from the passage"),
        ("loan extension", "terse", "an example of the prompt"),
        ("!", "terse", "no answer"),
        ("ab", "terse", "too short"),
    ],
)
def test_no_keywords(answer: str, style: Any, reason: str) -> None:
    parsed = parse(answer, style)
    assert isinstance(parsed, Rejected)
    assert parsed.reason == reason


def test_short_pieces_of_the_passage_are_keywords() -> None:
    assert parse("sixty millimetres thick", "terse") == "sixty millimetres thick"


def test_what_the_passage_itself_says_is_no_fault() -> None:
    passage = "The author of the text gets a fee."
    assert parse_query("Who pays the author?", style="question", passage=passage) == "Who pays the author?"


def test_what_stands_in_the_middle_stays() -> None:
    assert parse("Question: Is it a self - levelling screed, or 2. a dry one: which?") == (
        "Is it a self - levelling screed, or 2. a dry one: which?"
    )


def test_other_languages() -> None:
    assert parse("Fråga: Hur tjock är avjämningen?") == "Hur tjock är avjämningen?"
    assert parse("1. 地坪有多厚\uff1f因为") == "地坪有多厚\uff1f"
    assert parse("ما هو السمك\u061f") == "ما هو السمك\u061f"


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("yes", True),
        (" Yes.", True),
        ("**Yes**, it says so.", True),
        ("Answer: yes", True),
        ("no", False),
        ("No: the text is about bees.", False),
        ("NO\nyes", False),
        ("", None),
        ("Yes it may", None),
        ("no idea", None),
        ("yesterday", None),
        ("It does not answer: no", None),
        ("yes/no", None),
        ("<think>yes", None),
    ],
)
def test_verdicts(answer: str, verdict: bool | None) -> None:
    assert parse_verdict(answer) is verdict


@given(st.text(), st.sampled_from(["question", "keywords", "terse"]))
def test_any_answer_gives_a_clean_query_or_a_reason(answer: str, style: Any) -> None:
    parsed = parse(answer, style)
    text = parsed.answer if isinstance(parsed, Rejected) else parsed
    assert "\n" not in text
    assert text == text.strip()
    text.encode()
    if not isinstance(parsed, Rejected):
        assert normalised(parsed)
        assert parse(parsed, style) == parsed


def test_the_first_line_ends_in_time() -> None:
    assert first_line('"' * 5000 + "a") != ""
    assert first_line("- " * 5000 + "a") == "a"
