from __future__ import annotations

import pytest

from genai.config.durations import UNITS, Duration


@pytest.mark.parametrize(
    ("text", "value", "unit", "canonical"),
    [
        ("3ep", 3, "ep", "3ep"),
        ("500ba", 500, "ba", "500ba"),
        ("2e9tok", 2e9, "tok", "2000000000tok"),
        ("1_000sp", 1000, "sp", "1000sp"),
        (" 10 ba ", 10, "ba", "10ba"),
        ("0.1dur", 0.1, "dur", "0.1dur"),
        (".5dur", 0.5, "dur", "0.5dur"),
        ("1dur", 1, "dur", "1dur"),
        ("0ba", 0, "ba", "0ba"),
    ],
)
def test_parse(text: str, value: float, unit: str, canonical: str) -> None:
    duration = Duration.parse(text)
    assert (duration.value, duration.unit, str(duration)) == (value, unit, canonical)
    assert duration.unit in UNITS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "ep",
        "3 epochs",
        "-1ba",
        "3.5ep",
        "2dur",
        "1e-1ba",
        "ba3",
        "3ep 2ba",
        "1e400ep",
        "1e18ba",
        "٣ep",
        3,
        None,
        "inf ba",
    ],
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        Duration.parse(text)
