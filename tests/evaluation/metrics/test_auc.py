from __future__ import annotations

import random

import numpy as np
import pytest
from metric_examples import answered, chosen_among, figure_of, likelihoods, metric_of, reason_of, score_of
from sklearn.metrics import roc_auc_score

from genai.errors import UsageError
from genai.evaluation.records import Ranking


def test_the_figure_is_that_of_scikit_learn() -> None:
    generator = random.Random(4)
    true = [generator.random() < 0.3 for _ in range(150)]
    numbers = [round(generator.gauss(0.6 if each else 0.4, 0.2), 1) for each in true]  # with many ties
    metric = metric_of("auc", "classification", positive="spam")
    scores = [
        score_of(metric, answered("Spam" if each else "ham"), f" {number}\n")
        for each, number in zip(true, numbers, strict=True)
    ]
    assert figure_of(metric, scores) == pytest.approx(roc_auc_score(true, numbers), abs=1e-9)


def test_choices_are_ranked_by_their_odds() -> None:
    generator = random.Random(5)
    gold = [generator.randint(0, 2) for _ in range(80)]
    logprobs = [[generator.gauss(-1 if choice == right else -2, 1) for choice in range(3)] for right in gold]
    metric = metric_of("auc", "multiple_choice", positive="Maybe")
    scores = [
        score_of(metric, chosen_among("yes", "maybe", "no", gold=right), likelihoods(*each))
        for right, each in zip(gold, logprobs, strict=True)
    ]
    shares = [np.exp(each[1]) / np.exp(each).sum() for each in logprobs]
    expected = roc_auc_score([right == 1 for right in gold], shares)
    assert figure_of(metric, scores) == pytest.approx(expected, abs=1e-9)


def test_without_a_negative_it_cannot_be_told() -> None:
    metric = metric_of("auc", "classification", positive="spam")
    assert str(figure_of(metric, [score_of(metric, answered("spam"), "0.5")])) == "nan"


def test_what_tells_nothing_is_not_scored() -> None:
    metric = metric_of("auc", "classification", positive="spam")
    assert reason_of(metric, answered("spam"), "very likely") == "'very likely' is no number"
    assert reason_of(metric, answered(), "0.5") == "the row has no reference"
    assert reason_of(metric, answered("spam"), likelihoods(-1.0)) == "the row has no choices with a right one"
    choices = chosen_among("ham", "eggs", gold=0)
    assert reason_of(metric, choices, likelihoods(-1.0, -2.0)) == "'spam' is not one of its 2 choices"
    assert "this is a ranking" in reason_of(metric, answered("spam"), Ranking(keys=()))


def test_the_positive_label_must_be_named() -> None:
    with pytest.raises(UsageError, match="metric 'auc' needs 'positive'"):
        metric_of("auc", "classification")
    with pytest.raises(UsageError, match="empty label"):
        metric_of("auc", "classification", positive=" ")
