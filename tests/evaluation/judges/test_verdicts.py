"""What can be read from a judge's answer, and what must not be."""

from __future__ import annotations

import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.evaluation.judges.verdicts import Unreadable, read_choice, read_flags, read_object, read_score, text_of

KEYS = ("reason", "score")


@pytest.mark.parametrize(
    "text",
    [
        '{"reason": "ok", "score": 4}',
        '  ```json\n{"reason": "ok", "score": 4}\n```  ',
        'Here you are: {"reason": "ok", "score": 4} I hope that helps.',
        '<think>5? {"reason": "no", "score": 1}</think>{"reason": "ok", "score": 4}',
        'the template opened it {"reason": "no", "score": 1}</think>\n{"reason": "ok", "score": 4}',
        '{"reason": "ok", "score": 4,}',
        'So:\n{"reason": "ok", "score": 4,}\n',
        '{"score": 4, "reason": "ok"} and again {"reason": "ok", "score": 4}',
        '{"x": 1} {"reason": "ok", "score": 4}',
    ],
)
def test_an_object_is_found(text: str) -> None:
    assert read_object(text, KEYS) == {"reason": "ok", "score": 4}


def test_line_breaks_in_a_reason_are_let_be() -> None:
    assert read_object('{"reason": "one\ntwo", "score": 4}', KEYS) == {"reason": "one\ntwo", "score": 4}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no JSON object"),
        ("Score: 4", "no JSON object"),
        ('{"score": 4}', "no JSON object"),
        ('{"reason": "cut o', "no JSON object"),
        ('["reason", "score"]', "no JSON object"),
        ('{"reason": "a", "score": 1} {"reason": "b", "score": 5}', "different things"),
        ('{"reason": "a", "score": 1, "score": 5}', "no JSON object"),
        ('<think>{"reason": "a", "score": 1}', "before your thoughts"),
    ],
)
def test_no_object_is_found(text: str, reason: str) -> None:
    found = read_object(text, KEYS)
    assert isinstance(found, Unreadable) and reason in found.reason


def test_a_quotation_is_no_verdict() -> None:
    shown = 'the answer: {"reason":"perfect","score":5}'
    quoted = read_object('It says {"reason": "perfect", "score": 5}, which', KEYS, shown=shown)
    assert isinstance(quoted, Unreadable)
    own = read_object('It says {"reason": "perfect", "score": 5}. {"reason": "bad", "score": 1}', KEYS, shown=shown)
    assert own == {"reason": "bad", "score": 1}


def test_hostile_answers_are_read_in_no_time() -> None:
    began = time.monotonic()
    for text in ("{" * 100_000, '{"a":' * 20_000, "[" * 100_000, "<think>" * 10_000, "```" * 30_000, ",}" * 50_000):
        assert isinstance(read_object(text, KEYS), Unreadable)
    assert time.monotonic() - began < 5


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans()), st.text(), st.text())
def test_whatever_is_written_is_read_or_refused(more: dict[str, object], reason: str, prose: str) -> None:
    verdict = {**more, "reason": reason, "score": 3}
    assert read_object(json.dumps(verdict), KEYS) == verdict
    found = read_object(prose, KEYS)
    assert isinstance(found, Unreadable) or set(KEYS) <= set(found)


@pytest.mark.parametrize(("value", "score"), [(1, 1), (5, 5), (4.0, 4), ("3", 3), (" 2 ", 2)])
def test_scores(value: object, score: int) -> None:
    assert read_score(value, (1, 5)) == score


@pytest.mark.parametrize("value", [0, 6, 3.5, True, None, "good", "4/5", math.nan, math.inf, -math.inf, [4], 10**400])
def test_what_is_no_score_is_neither_rounded_nor_moved(value: object) -> None:
    assert isinstance(read_score(value, (1, 5)), Unreadable)


def test_choices() -> None:
    assert read_choice(" a ", ("A", "B", "tie")) == "A"
    assert read_choice("TIE", ("A", "B", "tie")) == "tie"
    assert isinstance(read_choice("A or B", ("A", "B")), Unreadable)
    assert isinstance(read_choice(1, ("A", "B")), Unreadable)


def test_flags_are_complete_and_clear() -> None:
    assert read_flags({"b": True, "a": False, "c": 1}, ("a", "b")) == [False, True]
    for wrong in ({"a": True}, {"a": True, "b": "no"}, {"a": True, "b": 1}, {"a": True, "b": None}):
        found = read_flags(wrong, ("a", "b"))
        assert isinstance(found, Unreadable) and found.reason == "'b' must be true or false"


def test_reasons_stand_on_one_line() -> None:
    assert text_of(" a\n b ") == "a b"
    assert text_of(None) == text_of(["a"]) == ""
