"""Against lm-eval's own aggregations, on counts of real texts."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from lm_eval.api.metrics import bits_per_byte, weighted_perplexity
from metric_examples import (
    answered,
    chosen_among,
    figure_of,
    likelihoods,
    metric_of,
    reason_of,
    score_of,
    value_of,
    whole,
)

from genai.errors import UsageError

TEXTS = [
    *(Path(__file__).resolve().parents[3] / "LICENSE").read_text(encoding="ascii").split("\n\n")[:30],
    "Straße — 中文\n",
    " x ",
]
LOSSES = [1.7 * len(text) + number for number, text in enumerate(TEXTS)]
COUNTS = {
    "perplexity": [7 + number for number in range(len(TEXTS))],
    "word_perplexity": [len(re.split(r"\s+", text)) for text in TEXTS],
    "byte_perplexity": [len(text.encode("utf-8")) for text in TEXTS],
    "bits_per_byte": [len(text.encode("utf-8")) for text in TEXTS],
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_figure_over_all_texts_is_that_of_lm_eval(name: str) -> None:
    metric = metric_of(name, "text")
    scores = [
        score_of(metric, whole(text), likelihoods(-loss, num_tokens=7 + number))
        for number, (text, loss) in enumerate(zip(TEXTS, LOSSES, strict=True))
    ]
    reference = bits_per_byte if name == "bits_per_byte" else weighted_perplexity
    expected = reference([(-loss, count) for loss, count in zip(LOSSES, COUNTS[name], strict=True)])
    assert figure_of(metric, scores) == pytest.approx(expected, rel=1e-12)


def test_one_text_has_a_value_of_its_own() -> None:
    assert value_of(metric_of("perplexity", "text"), whole("abcd"), likelihoods(-6.0, num_tokens=3)) == math.exp(2)
    assert value_of(metric_of("bits_per_byte", "text"), whole("abcd"), likelihoods(-4 * math.log(2))) == pytest.approx(
        1
    )
    assert value_of(metric_of("perplexity", "text"), whole("a"), likelihoods(-5000.0)) == math.exp(700)


def test_continuations_count_without_their_context() -> None:
    example = chosen_among("abc", gold=None, kind="language_modeling")
    metric = metric_of("byte_perplexity", "language_modeling")
    assert value_of(metric, example, likelihoods(-8.0)) == math.exp(2)  # a blank and three letters


@pytest.mark.parametrize("name", COUNTS)
def test_what_has_no_text_or_no_likelihood_is_not_scored(name: str) -> None:
    metric = metric_of(name, "text")
    assert reason_of(metric, whole(""), likelihoods(-1.0, num_tokens=0)) == "the text is empty"
    assert reason_of(metric, answered("a"), likelihoods(-1.0)) == "the text is empty"
    assert "is -inf" in reason_of(metric, whole("a"), likelihoods(-math.inf))
    assert "is nan" in reason_of(metric, whole("a"), likelihoods(math.nan))


def test_windows_must_not_leave_tokens_out() -> None:
    with pytest.raises(UsageError, match="stride 64 and context 32"):
        metric_of("perplexity", "text", context=32, stride=64)
