"""The gates of an evaluation: their names before anything is measured, and whether they hold afterwards.

What was not measured, or may not be trusted, holds no gate: one that says nothing must not let anything through.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from genai.config.eval import StatisticsConfig
from genai.config.gates import Gate, parse_gate
from genai.errors import UsageError
from genai.evaluation.records import Comparison, GateOutcome, Measured
from genai.metrics.sample_size import EFFECT, fewest_clusters

ALL_TARGETS = "all targets"
"""The target of a gate on a figure of the whole job."""


def known_names(labels: Mapping[str, Collection[str]], totals: Collection[str] = ()) -> dict[str, str]:
    """What gates can name: `faq.token_f1`, `cost_usd`, and `token_f1` where only one data set is measured by it.

    Args:
        labels: data set -> labels of the metrics that are measured on it.
        totals: names of figures of the whole job.

    Returns:
        Each name that can be written -> the full one.
    """
    times = Counter(label for of_dataset in labels.values() for label in set(of_dataset))
    full = {f"{dataset}.{label}": label for dataset, of_dataset in labels.items() for label in of_dataset}
    short = {label: name for name, label in full.items() if times[label] == 1}
    return short | {name: name for name in (*full, *totals)}


def check_gate(text: str, known: Mapping[str, str], *, totals: Collection[str] = (), has_baseline: bool) -> Gate:
    """Read a gate before anything has been measured.

    Args:
        text: the condition.
        known: see `known_names`.
        totals: names of figures of the whole job, which no baseline has.
        has_baseline: whether there is one.

    Returns:
        The condition, with the full name of what it is about.

    Raises:
        UsageError: it is no condition, names what is not measured, or asks for a baseline that is not there.
    """
    gate = parse_gate(text, known=known)
    name = known[gate.metric]
    if gate.from_baseline and name in totals:
        raise UsageError(
            f"the condition '{gate}' compares {name} with a baseline, but it is a figure of the whole job",
            fix=f"compare it with a number: {name} <= 1",
        )
    if gate.from_baseline and not has_baseline:
        raise UsageError(f"the condition '{gate}' asks for a baseline, and there is none", fix="set baseline")
    return dataclasses.replace(gate, metric=name)


def judge_gates(
    gates: Sequence[str],
    measured: Sequence[Measured],
    totals: Mapping[str, float],
    *,
    targets: Collection[str] | None = None,
    statistics: StatisticsConfig | None = None,
) -> list[GateOutcome]:
    """Hold every gate against every target.

    Args:
        gates: conditions, as they were written.
        measured: of all targets and data sets, corrected by `correct`.
        totals: figures of the whole job, such as cost_usd.
        targets: those for which the gates must hold; None: all that were measured.
        statistics: with which it was measured.

    Raises:
        UsageError: see `check_gate`.
    """
    names = list(dict.fromkeys(each.target for each in measured)) if targets is None else list(targets)
    labels: dict[str, list[str]] = {}
    for each in measured:
        labels.setdefault(each.dataset, []).append(each.metric)
    known = known_names(labels, totals)
    found = {(each.target, each.name): each for each in measured}
    statistics = statistics or StatisticsConfig()
    outcomes = []
    for text in gates:
        gate = check_gate(text, known, totals=totals, has_baseline=True)
        if gate.metric in totals:
            verdict = gate.judge(totals[gate.metric])
            outcomes.append(GateOutcome(gate=text, target=ALL_TARGETS, passed=verdict.passed, reason=verdict.reason))
            continue
        for name in names:
            passed, reason = _judged(gate, found.get((name, gate.metric)), statistics)
            outcomes.append(GateOutcome(gate=text, target=name, passed=passed, reason=reason))
    return outcomes


def _judged(gate: Gate, measured: Measured | None, statistics: StatisticsConfig) -> tuple[bool, str]:
    """Whether a gate holds, and why; what was not measured or is not to be trusted holds nothing."""
    if measured is None or not measured.num:
        return False, f"{gate.metric}: no example was scored"
    if not measured.trusted:
        return False, f"{gate.metric} may decide nothing: {measured.notes[-1] if measured.notes else 'not trusted'}"
    comparison = measured.comparison
    if not gate.from_baseline:
        verdict = gate.judge(measured.value)
        return verdict.passed, verdict.reason
    if comparison is None:
        return False, f"{gate.metric}: there is no example that the baseline has a score for too"
    independent = min(comparison.num, measured.num_clusters)
    if gate.is_statement and independent < (fewest := fewest_clusters(statistics.alpha)):
        return False, f"{gate.metric}: {independent} independent examples cannot show anything, it takes {fewest}"
    verdict = gate.judge(
        comparison.value,
        baseline=comparison.baseline,
        interval=(comparison.low, comparison.high),
        confidence=statistics.confidence,
        higher_is_better=measured.higher_is_better,
        differs=comparison.significant,
    )
    return verdict.passed, f"{verdict.reason}, {_evidence(comparison)}" if gate.is_statement else verdict.reason


def _evidence(comparison: Comparison) -> str:
    """The p-value, and how many examples it would take where there are too few of them."""
    said = f"p {comparison.p_adjusted:.2g}"
    if comparison.p_adjusted != comparison.p_value:
        said += f" (corrected, alone {comparison.p_value:.2g})"
    if not comparison.significant and comparison.needed is not None and comparison.needed > comparison.num:
        said += f"; of {comparison.num} examples, where a difference of {EFFECT:g} takes about {comparison.needed}"
    return said
