"""Figures from sums are those of lm-eval's own aggregations, on all documents and on documents drawn again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from genai.evaluation.engines.lm_eval_scores import NUM_RESAMPLES, LmEvalTask, MetricOfTask, label_of, read_task
from genai.evaluation.records import Chat, Continuations, Score, Unscored, WholeText

metrics = pytest.importorskip("lm_eval.api.metrics")
TOLERANCE = 1e-12
NUM = 40
CHANCE = np.random.default_rng(5)
BITS: list[Any] = [tuple(map(int, row)) for row in CHANCE.integers(0, 2, (NUM, 2))]
LIKELIHOODS: list[Any] = [
    (float(-a), int(b)) for a, b in zip(CHANCE.random(NUM) * 40, CHANCE.integers(1, 30, NUM), strict=True)
]
NUMBERS: list[Any] = CHANCE.random(NUM).tolist()
PROBABILITIES: list[Any] = [(int(CHANCE.integers(3)), CHANCE.dirichlet((1, 1, 1))) for _ in range(NUM)]
TEXTS: list[Any] = [(f"the wall {number}", f"the {number % 3} wall") for number in range(NUM)]


def task(values: Sequence[Any], aggregation: Callable[[list[Any]], Any], **changes: Any) -> LmEvalTask:
    samples = [
        {
            "doc_id": number,
            "doc_hash": f"hash of {changes.get('hash', number)}",
            "target": 1,
            "arguments": [("A wall is", " high"), ("A wall is", " low")],
            "resps": [[(-1.0, True)], [(-2.0, False)]],
            "filter": "none",
            "metrics": ["figure"],
            "figure": value,
        }
        for number, value in enumerate(values)
    ]
    metric = MetricOfTask(name="figure", aggregation=aggregation, higher_is_better=True)
    return read_task(
        "walls",
        changes.get("samples", samples),
        output_type=changes.get("output_type", "multiple_choice"),
        metrics={"figure": metric},
        reported={"figure": 0.5},
        target="base",
        seed=1,
        confidence=0.95,
    )


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("mean", NUMBERS),
        ("nanmean", NUMBERS),
        ("perplexity", [-number for number in NUMBERS]),
        ("weighted_perplexity", LIKELIHOODS),
        ("bits_per_byte", LIKELIHOODS),
        ("f1_score", BITS),
        ("matthews_corrcoef", BITS),
        ("brier_score", PROBABILITIES),
    ],
)
def test_sums_make_the_figure(name: str, values: list[Any]) -> None:
    aggregation = getattr(metrics, name)
    found = task(values, aggregation)
    assert not found.whole
    scores = [each.scores["figure"] for each in found.scored]
    parts_NP = np.array([score.parts for score in scores if isinstance(score, Score)])
    draws = [list(range(NUM)), *CHANCE.integers(0, NUM, (5, NUM)).tolist()]
    weights_RN = np.array([np.bincount(draw, minlength=NUM) for draw in draws], dtype=np.float64)
    wanted = [float(aggregation([values[number] for number in draw])) for draw in draws]
    figures = found.metrics["figure"].aggregate(parts_NP, weights_RN)
    np.testing.assert_allclose(figures, wanted, rtol=TOLERANCE, atol=TOLERANCE)


def test_what_is_the_same_everywhere_has_no_correlation() -> None:
    found = task([(1, 1)] * NUM, metrics.matthews_corrcoef)
    parts_NP = np.array([each.scores["figure"].parts for each in found.scored])  # type: ignore[union-attr]
    assert found.metrics["figure"].aggregate(parts_NP, np.ones((1, NUM))).tolist() == [0.0]


@pytest.mark.parametrize(
    ("aggregation", "values"),
    [
        (metrics.chrf, TEXTS),
        (metrics.matthews_corrcoef, [(number % 3, number % 2) for number in range(NUM)]),
        (lambda items: max(items), NUMBERS),
    ],
    ids=["chrf", "three labels", "a function of the task"],
)
def test_what_has_no_formula_is_drawn_again(aggregation: Callable[[list[Any]], Any], values: list[Any]) -> None:
    found = task(values, aggregation)
    assert not found.metrics
    (measured,) = found.whole
    assert measured.value == pytest.approx(float(aggregation(values)))
    assert measured.low <= measured.value <= measured.high
    assert measured.low < measured.high
    assert (measured.num, measured.name) == (NUM, "walls.figure")
    assert str(NUM_RESAMPLES) in measured.notes[0]
    assert task(values, aggregation).whole == found.whole


def test_no_number_is_no_score() -> None:
    found = task([0.5, float("nan")], metrics.nanmean)
    first, second = (each.scores["figure"] for each in found.scored)
    assert isinstance(first, Score)
    assert isinstance(second, Unscored)


def test_documents_that_are_alike_are_told_apart() -> None:
    first, second = (each.example for each in task([0.5, 0.5], metrics.mean, hash="the same").scored)
    assert second.id == f"{first.id}-2"


def test_the_kinds_of_questions() -> None:
    choice = task([1.0], metrics.mean).scored[0].example
    assert choice.question == Continuations(pairs=(("A wall is", " high"), ("A wall is", " low")))
    assert (choice.kind, choice.gold, choice.references) == ("multiple_choice", 1, ())
    sample = {"doc_id": 0, "doc_hash": "h", "filter": "none", "metrics": ["figure"], "figure": 1.0}
    rolling = {**sample, "target": "A wall.", "arguments": [("A wall.",)], "resps": [[-3.0]]}
    text = task([], metrics.mean, samples=[rolling], output_type="loglikelihood_rolling").scored[0].example
    assert (text.question, text.kind, text.references) == (WholeText(text="A wall."), "text", ())
    asked = {**sample, "target": ["high", "tall"], "arguments": [("A wall is", {"until": ["."]})], "resps": [[" high"]]}
    answer = task([], metrics.mean, samples=[asked], output_type="generate_until").scored[0].example
    assert (answer.question, answer.references) == (Chat(prompt="A wall is"), ("high", "tall"))


def test_labels_name_the_filter() -> None:
    assert label_of("acc", "none") == "acc"
    assert label_of("exact_match", "strict-match") == "exact_match/strict-match"
