"""The figure is that of the corpus; genai.metrics.chrf is held against sacrebleu on its own."""

from __future__ import annotations

import pytest
from metric_examples import answered, figure_of, metric_of, reason_of, score_of, value_of
from sacrebleu.metrics import CHRF

ANSWERS = ["The cat sat on the mat.", "He reads a book", "It is raining cats and dogs today"]
REFERENCES = ["The cat is sitting on the mat.", "He is reading a book.", "It is raining heavily today."]


@pytest.mark.parametrize("word_order", [0, 2])
def test_the_figure_is_that_of_sacrebleu_for_the_corpus(word_order: int) -> None:
    metric = metric_of("chrf", kwargs={"word_order": word_order})
    scores = [score_of(metric, answered(wanted), text) for text, wanted in zip(ANSWERS, REFERENCES, strict=True)]
    expected = CHRF(word_order=word_order).corpus_score(ANSWERS, [REFERENCES]).score / 100
    assert figure_of(metric, scores) == pytest.approx(expected, abs=1e-9)


def test_settings() -> None:
    assert value_of(metric_of("chrf", ignore_case=True), answered("Straße"), "STRAßE") == pytest.approx(1)
    assert reason_of(metric_of("chrf"), answered(), "a") == "the row has no reference"
