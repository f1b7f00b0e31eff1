"""The figure is that of the corpus; genai.metrics.bleu is held against sacrebleu on its own."""

from __future__ import annotations

import pytest
from metric_examples import answered, figure_of, metric_of, reason_of, score_of, value_of
from sacrebleu.metrics import BLEU

ANSWERS = ["The cat sat on the mat.", "He reads a book", "It is raining cats and dogs today"]
REFERENCES = ["The cat is sitting on the mat.", "He is reading a book.", "It is raining heavily today."]


def test_the_figure_is_that_of_sacrebleu_for_the_corpus_and_not_the_mean_of_texts() -> None:
    metric = metric_of("bleu")
    scores = [score_of(metric, answered(wanted), text) for text, wanted in zip(ANSWERS, REFERENCES, strict=True)]
    expected = BLEU().corpus_score(ANSWERS, [REFERENCES]).score / 100
    assert figure_of(metric, scores) == pytest.approx(expected, abs=1e-9)
    twice = BLEU().corpus_score([ANSWERS[0]] * 2 + ANSWERS[1:2], [[REFERENCES[0]] * 2 + REFERENCES[1:2]]).score / 100
    assert figure_of(metric, scores, [2, 1, 0]) == pytest.approx(twice, abs=1e-9)


def test_a_single_text_has_the_smoothed_value() -> None:
    expected = BLEU(effective_order=True).sentence_score(ANSWERS[1], [REFERENCES[1]]).score / 100
    assert value_of(metric_of("bleu"), answered(REFERENCES[1]), ANSWERS[1]) == pytest.approx(expected, abs=1e-9)


def test_settings() -> None:
    assert value_of(metric_of("bleu", ignore_case=True), answered("A B C D E"), "a b c d e") == pytest.approx(1)
    assert value_of(metric_of("bleu", kwargs={"tokenize": "char"}), answered("今天天气"), "今 天天气") == pytest.approx(
        1
    )
    assert reason_of(metric_of("bleu"), answered(), "a") == "the row has no reference"
