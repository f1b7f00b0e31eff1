"""How far several judges agree, and what is said of it."""

from __future__ import annotations

import math

import pytest

from genai.evaluation.judges.notes import notes_of
from genai.evaluation.judges.panel import agreement_of
from genai.evaluation.records import Score, Unscored
from genai.metrics.agreement import krippendorff_alpha


def score(**judges: float) -> Score:
    value = sum(judges.values()) / len(judges)
    return Score(parts=(value,), value=value, details={"judges": judges})


def test_agreement_is_krippendorffs_alpha_of_what_all_judges_said() -> None:
    scores = [score(a=1.0, b=0.75), Unscored(reason="gone"), score(a=0.0, b=0.25), score(a=0.5, b=0.5)]
    agreement = agreement_of(scores)
    assert agreement is not None and (agreement.judges, agreement.num) == (("a", "b"), 3)
    expected = krippendorff_alpha([[1.0, 0.0, 0.5], [0.75, 0.25, 0.5]], level="interval")
    assert agreement.alpha == pytest.approx(expected)
    assert notes_of(scores) == (
        f"judges a, b: Krippendorff's alpha {expected:.2f} on 3 examples",
        "not scored, 1x: gone",
    )


def test_one_judge_agrees_with_nobody() -> None:
    assert agreement_of([score(a=1.0)]) is None
    assert agreement_of([]) is None
    assert notes_of([score(a=1.0)]) == ()


def test_judges_that_always_say_the_same_tell_nothing() -> None:
    agreement = agreement_of([score(a=1.0, b=1.0)] * 5)
    assert agreement is not None and math.isnan(agreement.alpha)
    assert "cannot be told" in notes_of([score(a=1.0, b=1.0)] * 5)[0]


def test_the_commonest_reasons_are_told() -> None:
    scores = [Unscored(reason="slow")] * 3 + [Unscored(reason=f"odd {number}") for number in range(9)]
    assert notes_of(scores)[0] == "not scored, 3x: slow"
    assert len(notes_of(scores)) == 3
