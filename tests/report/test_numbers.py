import itertools
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from genai.report.numbers import change, compact, count, duration, ticks


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (3.94123, "3.94"),
        (100, "100"),
        (999, "999"),
        (1000, "1k"),
        (1234567, "1.23M"),
        (-2_500_000_000, "-2.5G"),
        (0.5, "0.5"),
        (0.001, "0.001"),
        (5e-4, "5e-4"),
        (-1.25e-7, "-1.25e-7"),
        (math.nan, "not a number"),
        (-math.inf, "infinite"),
    ],
)
def test_compact(value: float, expected: str) -> None:
    assert compact(value) == expected


def test_counts() -> None:
    assert (count(1234567.4), count(0)) == ("1,234,567", "0")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.421, "0.42 s"), (9.96, "10 s"), (17.4, "17 s"), (59.7, "1 min 0 s"), (200, "3 min 20 s"), (7510, "2 h 5 min")],
)
def test_duration(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_change() -> None:
    assert change(3.94, 2.9) == "-26.4 %"
    assert change(2, 3) == "+50.0 %"
    assert change(0, 1) == change(1, math.nan) == change(math.inf, 1) == "n/a"


def test_ticks_are_round() -> None:
    assert ticks(2.3, 4.1) == [2, 2.5, 3, 3.5, 4, 4.5]
    assert ticks(0, 5e-4) == [0, 1e-4, 2e-4, 3e-4, 4e-4, 5e-4]
    assert ticks(7, 7) == [6, 6.5, 7, 7.5, 8]


@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e12))
def test_ticks_hold_the_range_in_a_few_even_steps(low: float, width: float) -> None:
    assume(width > 1e-6 * abs(low))
    high = low + width
    values = ticks(low, high)
    slack = 1e-6 * max(abs(low), abs(high), 1e-3)
    assert 2 <= len(values) <= 9
    assert values[0] <= low + slack and values[-1] >= high - slack
    steps = [after - before for before, after in itertools.pairwise(values)]
    assert max(steps) - min(steps) <= slack and min(steps) > 0
