"""Labels and numbers as models write them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from genai.metrics.classification import log_odds, plain_label, read_number


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("positive", "positive"),
        (" **Positive**.\n", "positive"),
        ('"very  good"!', "very good"),
        ("“negative”", "negative"),
        ("`B`", "b"),
        ("(c)", "c"),
        ("C++", "c++"),
        ("+1", "+1"),
        ("A", "a"),
        ("...", "..."),
        ("", ""),
        ("not positive", "not positive"),
    ],
)
def test_what_stands_around_a_label_is_taken_off(text: str, label: str) -> None:
    assert plain_label(text) == label


def test_capital_letters_of_labels_can_be_kept() -> None:
    assert plain_label("*Paris*", ignore_case=False) == "Paris"


@pytest.mark.parametrize(
    ("text", "number"),
    [("0.75", 0.75), (" 7\n", 7.0), ("85 %", 0.85), ("-1e-3", -0.001), (".5", 0.5), ("5.", 5.0)],
)
def test_numbers_are_read(text: str, number: float) -> None:
    assert read_number(text) == pytest.approx(number)


@pytest.mark.parametrize("text", ["", "high", "7 of 10", "0,5", "nan", "inf", "1e999", "1_000", "%", "0x10", "\u0665a"])
def test_what_is_no_number_is_none(text: str) -> None:
    assert read_number(text) is None


def test_log_odds_are_those_of_the_normalised_probabilities() -> None:
    logprobs = [-3.0, -1.0, -2.5]
    shares = np.exp(logprobs) / np.exp(logprobs).sum()
    assert log_odds(logprobs, 1) == pytest.approx(math.log(shares[1] / (1 - shares[1])))
    assert log_odds([-2000.0, -1000.0], 1) == pytest.approx(1000)
