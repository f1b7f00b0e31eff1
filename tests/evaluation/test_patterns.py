from __future__ import annotations

import time

import pytest

from genai.errors import UsageError
from genai.evaluation.patterns import TIME_LIMIT_S, Pattern


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        (r"Answer: (.*)", "42 km"),
        (r"\d+", "42"),
        (r"(\d+) miles|(\d+) km", "42"),
        (r"(miles)?Answer", "Answer"),
        (r"none", None),
        (r"Answer:( ?)", " "),
        (r"Answer:()", ""),
    ],
)
def test_the_first_group_that_took_part_is_the_answer_proper(pattern: str, found: str | None) -> None:
    assert Pattern(pattern).find("I think.\nAnswer: 42 km\nBye.") == found


def test_a_pattern_that_goes_astray_is_stopped() -> None:
    started = time.perf_counter()
    with pytest.raises(TimeoutError):
        Pattern(r"(a|a)*b(c)").find("a" * 60 + "bd")
    # The two clocks need not agree to the last millisecond.
    assert 0.5 * TIME_LIMIT_S < time.perf_counter() - started < 10 * TIME_LIMIT_S


@pytest.mark.parametrize("pattern", ["(", "[a", "(?P<1>a)", "*"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="is no regular expression"):
        Pattern(pattern)
