from __future__ import annotations

import random

import numpy as np
import pytest
from metric_examples import answered, figure_of, metric_of, reason_of, score_of
from sklearn.metrics import f1_score

from genai.evaluation.records import Score

LABELS = ["good", "bad", "mixed", "never said"]


def rows(num: int) -> tuple[list[str], list[str]]:
    """True labels, rare and frequent ones, and answers, some of which are no label."""
    generator = random.Random(2)
    true = generator.choices(LABELS, weights=[6, 3, 2, 1], k=num)
    said = [label if generator.random() < 0.6 else generator.choice([*LABELS[:3], "hm", "who knows"]) for label in true]
    return true, said


def test_the_figure_is_that_of_scikit_learn_over_the_labels_of_the_data() -> None:
    true, said = rows(200)
    metric = metric_of("macro_f1", "classification")
    scores = [score_of(metric, answered(label), text) for label, text in zip(true, said, strict=True)]
    expected = f1_score(true, said, labels=sorted(set(true)), average="macro")
    assert figure_of(metric, scores) == pytest.approx(expected, abs=1e-9)
    assert 0.3 < expected < 0.9


def test_resamples_have_the_figure_of_their_rows() -> None:
    true, said = rows(60)
    metric = metric_of("macro_f1", "classification")
    parts_NP = np.array(
        [
            score.parts
            for label, text in zip(true, said, strict=True)
            if isinstance(score := score_of(metric, answered(label), text), Score)
        ]
    )
    drawn_RN = np.random.default_rng(3).integers(60, size=(8, 60))
    weights_RN = np.stack([np.bincount(drawn, minlength=60) for drawn in drawn_RN]).astype(np.float64)
    for drawn, value in zip(drawn_RN, metric.aggregate(parts_NP, weights_RN), strict=True):
        pairs = [true[number] for number in drawn], [said[number] for number in drawn]
        seen = sorted({*pairs[0], *pairs[1]} & set(true))
        assert value == pytest.approx(f1_score(*pairs, labels=seen, average="macro"), abs=1e-9)


def test_the_parts_of_a_label_are_the_same_in_every_run() -> None:
    first, second = (
        score_of(metric_of("macro_f1", "classification"), answered("Good"), "good!"),
        score_of(metric_of("macro_f1", "classification"), answered("good"), "GOOD"),
    )
    assert first == second == Score(parts=(first.parts[0],) * 2, value=1.0)  # type: ignore[union-attr]


def test_a_row_without_a_label_is_not_scored() -> None:
    assert reason_of(metric_of("macro_f1", "classification"), answered(), "good") == "the row has no reference"
