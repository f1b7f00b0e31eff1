"""Names that gates may have, and gates held against figures; the grammar itself is tested in config."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from genai.config.eval import StatisticsConfig
from genai.errors import UsageError
from genai.evaluation.gating import check_gate, judge_gates, known_names
from genai.evaluation.records import Comparison, GateOutcome, Measured

COMPARISON = Comparison(
    baseline=0.60,
    value=0.65,
    difference=0.05,
    low=0.03,
    high=0.07,
    p_value=0.001,
    p_adjusted=0.004,
    significant=True,
    wins=30,
    losses=10,
    ties=60,
    num=100,
)
F1 = Measured(
    target="tuned",
    dataset="faq",
    metric="token_f1",
    value=0.66,
    low=0.6,
    high=0.7,
    num=100,
    num_clusters=100,
    comparison=COMPARISON,
)
LATENCY = replace(
    F1,
    metric="latency_s",
    value=1.5,
    unit="s",
    higher_is_better=False,
    comparison=replace(COMPARISON, baseline=1.0, value=1.5, difference=0.5, low=0.4, high=0.6),
)
TOTALS = {"cost_usd": 0.8}


def only(gate: str, *measured: Measured) -> GateOutcome:
    [outcome] = judge_gates([gate], measured or [F1, LATENCY], TOTALS)
    assert outcome.gate == gate
    return outcome


def test_names_are_full_or_short_where_only_one_is_meant() -> None:
    known = known_names({"faq": ["token_f1", "bleu"], "docs": ["ndcg@10", "bleu"]}, ["cost_usd"])
    assert known == {
        "faq.token_f1": "faq.token_f1",
        "faq.bleu": "faq.bleu",
        "docs.ndcg@10": "docs.ndcg@10",
        "docs.bleu": "docs.bleu",
        "token_f1": "faq.token_f1",
        "ndcg@10": "docs.ndcg@10",
        "cost_usd": "cost_usd",
    }


def test_a_total_goes_before_a_short_name() -> None:
    assert known_names({"faq": ["cost_usd"]}, ["cost_usd"])["cost_usd"] == "cost_usd"


def test_the_same_metric_of_several_targets_is_one_name() -> None:
    assert known_names({"faq": ["f1", "f1"]})["f1"] == "faq.f1"


def test_gates_are_checked_before_anything_is_measured() -> None:
    known = known_names({"faq": ["token_f1"]}, ["cost_usd"])
    assert check_gate("token_f1 >= 0.3", known, has_baseline=False).metric == "faq.token_f1"
    with pytest.raises(UsageError, match=r"which is not measured \(did you mean 'faq.token_f1'\?\)"):
        check_gate("faq.token_fl >= 0.3", known, has_baseline=True)
    for gate in ("token_f1 >= baseline", "token_f1 not significantly worse"):
        assert check_gate(gate, known, has_baseline=True).from_baseline
        with pytest.raises(UsageError, match="asks for a baseline, and there is none"):
            check_gate(gate, known, has_baseline=False)
        with pytest.raises(UsageError, match="cost_usd with a baseline, but it is a figure of the whole job"):
            check_gate(gate.replace("token_f1", "cost_usd"), known, totals=["cost_usd"], has_baseline=True)


@pytest.mark.parametrize(
    ("gate", "passed", "reason"),
    [
        ("faq.token_f1 >= 0.65", True, "faq.token_f1 0.660 >= 0.65"),
        ("token_f1 > 0.7", False, "faq.token_f1 0.660 is not > 0.7"),
        (
            "faq.token_f1 >= baseline - 0.02",
            True,
            "faq.token_f1 0.650 >= baseline 0.600 - 0.02 (+0.050, 95 % +0.030 to +0.070)",
        ),
        (
            "token_f1 significantly better",
            True,
            "faq.token_f1 0.650, baseline 0.600 (+0.050, 95 % +0.030 to +0.070): significantly better, "
            "p 0.004 (corrected, alone 0.001)",
        ),
        (
            "token_f1 significantly better by 0.04",
            False,
            "faq.token_f1 0.650, baseline 0.600 (+0.050, 95 % +0.030 to +0.070): not significantly better by 0.04, "
            "p 0.004 (corrected, alone 0.001)",
        ),
        ("token_f1 not significantly worse", True, None),
        ("latency_s not significantly worse", False, None),
        ("latency_s not significantly worse by 0.45", True, None),
        ("faq.latency_s <= 2", True, "faq.latency_s 1.500 <= 2"),
    ],
)
def test_gates_are_held_against_figures(gate: str, passed: bool, reason: str | None) -> None:
    outcome = only(gate)
    assert (outcome.target, outcome.passed) == ("tuned", passed)
    assert reason is None or outcome.reason == reason


def test_what_is_not_significant_after_correction_is_not_worse() -> None:
    worse = replace(COMPARISON, value=0.55, difference=-0.05, low=-0.09, high=-0.01, p_adjusted=0.08, significant=False)
    assert only("faq.token_f1 not significantly worse", replace(F1, comparison=worse)).passed
    surely = replace(worse, p_adjusted=0.01, significant=True)
    assert not only("faq.token_f1 not significantly worse", replace(F1, comparison=surely)).passed


@pytest.mark.parametrize("few", [{"num_clusters": 5}, {"comparison": replace(COMPARISON, num=5)}])
def test_a_statement_that_could_not_fail_does_not_hold(few: dict[str, Any]) -> None:
    for gate in ("token_f1 not significantly worse", "token_f1 significantly better"):
        outcome = only(gate, replace(F1, **few))
        assert not outcome.passed
        assert outcome.reason == "faq.token_f1: 5 independent examples cannot show anything, it takes 6"
    assert only("token_f1 >= baseline", replace(F1, **few)).passed
    enough = replace(F1, num_clusters=6)
    assert only("token_f1 not significantly worse", enough).passed
    [outcome] = judge_gates(["token_f1 not significantly worse"], [enough], {}, statistics=StatisticsConfig(alpha=0.01))
    assert outcome.reason.endswith("it takes 8")


def test_a_statement_that_rests_on_little_says_so() -> None:
    little = replace(COMPARISON, value=0.61, difference=0.01, low=-0.05, high=0.07, significant=False, needed=900)
    outcome = only("token_f1 not significantly worse", replace(F1, comparison=little))
    assert outcome.passed
    assert outcome.reason.endswith("; of 100 examples, where a difference of 0.02 takes about 900")


def test_a_budget_is_a_gate_on_the_whole_job() -> None:
    assert only("cost_usd <= 1") == GateOutcome(
        gate="cost_usd <= 1", target="all targets", passed=True, reason="cost_usd 0.800 <= 1"
    )
    assert not only("cost_usd <= 0.5").passed


def test_every_gate_must_hold_for_each_target() -> None:
    measured = [F1, replace(F1, target="base", value=0.2, comparison=None), replace(F1, target="tiny", value=0.1)]
    outcomes = judge_gates(["token_f1 > 0.5", "cost_usd < 1"], measured, TOTALS, targets=["tuned", "tiny"])
    assert [(each.target, each.passed) for each in outcomes] == [
        ("tuned", True),
        ("tiny", False),
        ("all targets", True),
    ]
    assert [each.target for each in judge_gates(["token_f1 > 0.5"], measured, {})] == ["tuned", "base", "tiny"]


def test_a_gate_on_what_was_not_measured_lets_nothing_through() -> None:
    nothing = replace(F1, num=0, value=math.nan, comparison=None)
    for gate in ("token_f1 >= 0", "token_f1 < 1", "token_f1 not significantly worse"):
        outcome = only(gate, nothing)
        assert (outcome.passed, outcome.reason) == (False, "faq.token_f1: no example was scored")
    [outcome] = judge_gates(["token_f1 >= 0"], [F1], {}, targets=["other"])
    assert not outcome.passed
    alone = only("token_f1 not significantly worse", replace(F1, comparison=None))
    assert not alone.passed
    assert "no example that the baseline has a score for" in alone.reason
    assert not only("token_f1 >= 0.5", replace(F1, value=math.nan)).passed


def test_a_gate_on_a_name_that_is_not_there_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="which is not measured"):
        only("accuracy >= 0.5")


def test_a_judge_that_is_not_trusted_decides_nothing() -> None:
    doubtful = replace(F1, trusted=False, notes=("few", "agrees with people by kappa 0.1 only"))
    outcome = only("token_f1 >= 0.1", doubtful)
    assert not outcome.passed
    assert outcome.reason == "faq.token_f1 may decide nothing: agrees with people by kappa 0.1 only"


def test_the_words_name_the_confidence() -> None:
    [outcome] = judge_gates(["token_f1 >= baseline"], [F1], {}, statistics=StatisticsConfig(confidence=0.9))
    assert "90 %" in outcome.reason


def test_a_p_value_that_was_not_corrected_stands_alone() -> None:
    plain = replace(F1, comparison=replace(COMPARISON, p_adjusted=0.001))
    assert only("token_f1 significantly better", plain).reason.endswith(": significantly better, p 0.001")
