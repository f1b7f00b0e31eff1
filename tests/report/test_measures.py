import math

import pytest

from genai.report.measures import figure, p_value, signed


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.41234, "", "0.412"),
        (1.734, "s", "1.734 s"),
        (23.123, "", "23.12"),
        (1234.5, "tokens", "1.234k tokens"),
        (0.00123, "usd", "$0.00123"),
        (math.nan, "s", "n/a"),
    ],
)
def test_figures(value: float, unit: str, text: str) -> None:
    assert figure(value, unit) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.1, "", "+0.100"),
        (-0.5, "s", "-0.500 s"),
        (-0.001, "usd", "-$0.001"),
        (0.0, "", "+0.000"),
        (math.inf, "", "n/a"),
    ],
)
def test_differences(value: float, unit: str, text: str) -> None:
    assert signed(value, unit) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0312, "0.031"), (0.00099, "< 0.001"), (1.0, "1.000"), (math.nan, "n/a")]
)
def test_p_values(value: float, text: str) -> None:
    assert p_value(value) == text
