from __future__ import annotations

import re
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from genai.config.durations import Duration
from genai.config.fields import DurationText, Notation, PositiveDurationText

NOTATION = next(entry for entry in get_args(DurationText) if isinstance(entry, Notation))


@given(st.from_regex(r"[0-9_.e+]{1,8} ?(ep|ba|tok|sp|dur|s)", fullmatch=True))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_the_pattern_for_editors_accepts_every_duration(text: str) -> None:
    try:
        Duration.parse(text)
    except ValueError:
        return
    assert re.search(NOTATION.pattern, text)


@pytest.mark.parametrize("text", ["3", "3 epochs", "-1ba", "", "e3ep", "3epp"])
def test_the_pattern_for_editors_refuses_what_is_none(text: str) -> None:
    assert not re.search(NOTATION.pattern, text)


def test_a_positive_duration_is_longer_than_zero() -> None:
    assert TypeAdapter(DurationText).validate_python("0ba") == "0ba"
    with pytest.raises(ValidationError, match="must be longer than zero"):
        TypeAdapter(PositiveDurationText).validate_python("0ba")
