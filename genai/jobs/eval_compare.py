"""`genai eval compare RUN_A RUN_B`: what B does better and worse than A, on the examples that both measured.

Nothing is asked or scored again: answers and scores come from the run directories. A metric is added up as its run did
it, which is held against the figures of both runs before anything is said about the difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from genai.config.eval import MetricConfig, StatisticsConfig
from genai.errors import DataError, GenaiError, UsageError
from genai.evaluation.files import ExampleRow
from genai.evaluation.interfaces import Floats, Metric, OutcomeKind
from genai.evaluation.measuring import correct, measure
from genai.evaluation.records import Example, Measured, Outcome, Score, Unscored
from genai.jobs.eval_cards import example_cards, verdict_of
from genai.jobs.eval_rows import lower_is_better, measure_rows
from genai.jobs.eval_runs import EvalRun, content_of, open_run
from genai.report.comparison import render_comparison_report
from genai.report.evaluation_contents import ComparisonReport, Verdict
from genai.storage.atomic import write_text
from genai.tracking.metrics import plain

_SAME = 1e-6
"""A figure that is added up again may differ by this share of itself: sums in another order."""
_QUESTION_CHARACTERS = 200


@dataclass(frozen=True, kw_only=True)
class ExampleChange:
    """An example on which one of the two is better."""

    dataset: str
    id: str
    metric: str
    first: float
    """A's score."""
    second: float
    """B's."""
    verdict: Verdict
    """Of B."""
    question: str
    """How it begins."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two evaluations side by side."""

    first: str
    """A: its run, and its target where that has several."""
    second: str
    """B."""
    measured: tuple[Measured, ...]
    """Of B on the examples that both have, each with its comparison with A."""
    changes: tuple[ExampleChange, ...]
    """Examples that were won or lost, by metric; the largest differences first."""
    num_examples: int
    """That both have."""
    left_out: tuple[str, ...]
    """What was not compared, and why."""
    html: str | None
    """The page, where one was asked for."""

    def to_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        values: dict[str, Any] = plain(asdict(self))
        return values


def compare(first: str, second: str, *, runs_dir: str | Path = "runs", html: Path | None = None) -> Compared:
    """Hold the second run against the first.

    Args:
        first, second: RUN, or RUN/TARGET where a run has several targets.
        runs_dir: where run directories lie.
        html: a page to write.

    Raises:
        UsageError: there is no such run or target, or both are the same.
        DataError: a run is no finished evaluation, they share no data set, or a data set has changed between them.
    """
    one, other = open_run(first, runs_dir), open_run(second, runs_dir)
    if one.label == other.label:
        raise UsageError(f"{one.label} would be compared with itself", fix="name two runs, or two targets of one")
    datasets, left_out = _common_datasets(one, other)
    measured: list[Measured] = []
    statistics = _statistics(other.config)
    for dataset in datasets:
        metrics, unknown = _metrics(one, other, dataset)
        pairs = [(one.rows[key], row) for key, row in other.rows.items() if key[0] == dataset and key in one.rows]
        left_out += [*unknown, *_unpaired(one, other, dataset, len(pairs))]
        if pairs and metrics:
            measured += measure(
                other.label,
                [row.scored() for _, row in pairs],
                metrics,
                baseline=[row.scored() for row, _ in pairs],
                statistics=statistics,
                seed=_seed(other.config),
            )
    if not measured:
        raise DataError(f"nothing of {one.label} can be compared with {other.label}", fix="; ".join(left_out) or None)
    found = tuple(correct(measured, statistics))
    keys = [key for key in other.rows if key in one.rows and key[0] in datasets]
    compared = Compared(
        first=one.label,
        second=other.label,
        measured=found,
        changes=_changes(one, other, found),
        num_examples=len(keys),
        left_out=tuple(left_out),
        html=None if html is None else str(html),
    )
    if html is not None:
        write_text(html, _page(compared, one, other, keys))
    return compared


# --- what can be compared ---------------------------------------------------------------------------------------------


def _common_datasets(one: EvalRun, other: EvalRun) -> tuple[list[str], list[str]]:
    """The data sets that both measured, and words about the others.

    Raises:
        DataError: there is none, or one of them has changed.
    """
    here, there = one.result.num_examples, other.result.num_examples
    common = [name for name in there if name in here]
    if not common:
        message = f"{one.label} measured {', '.join(here) or 'nothing'}, {other.label} {', '.join(there) or 'nothing'}"
        raise DataError(f"these runs share no data set: {message}", fix="measure both on the same data")
    for name in common:
        before, after = (content_of(run.directory, run.result, name) for run in (one, other))
        if before is not None and after is not None and before != after:
            raise DataError(
                f"data set '{name}' has changed between the runs: {before} in {one.label}, {after} in {other.label}",
                fix=f"run the job of {one.directory.name} again on the data of {other.directory.name}, then compare",
            )
    alone = [(name, one.label) for name in here if name not in there]
    alone += [(name, other.label) for name in there if name not in here]
    return common, [f"{name}: only {label} measured it" for name, label in alone]


def _unpaired(one: EvalRun, other: EvalRun, dataset: str, paired: int) -> list[str]:
    """Words about examples that only one of them has, as happens with another `limit`."""
    words = []
    for run in (one, other):
        more = sum(key[0] == dataset for key in run.rows) - paired
        if more:
            words.append(f"{dataset}: {more:,} examples that only {run.label} has")
    return words


@dataclass(frozen=True, kw_only=True)
class _Recorded:
    """A metric whose scores are there already; meets `genai.evaluation.interfaces.Metric`."""

    name: str
    unit: str
    higher_is_better: bool
    adding: Metric | None
    """How scores become one figure; None: by their mean."""
    looks_at: OutcomeKind = "any"

    async def score(self, example: Example, outcome: Outcome) -> Score | Unscored:
        """Nothing: the runs have scored."""
        return Unscored(reason="it is scored where it is measured")

    def aggregate(self, parts_NP: Floats, weights_RN: Floats) -> Floats:
        """See `Metric`."""
        if self.adding is not None:
            return self.adding.aggregate(parts_NP, weights_RN)
        with np.errstate(invalid="ignore"):
            means: Floats = weights_RN @ parts_NP[:, 0] / weights_RN.sum(axis=1)
        return means


def _metrics(one: EvalRun, other: EvalRun, dataset: str) -> tuple[dict[str, Metric], list[str]]:
    """Label -> the metric, of all that both measured on a data set; and words about what cannot be compared."""
    before, after = _measured(one, dataset), _measured(other, dataset)
    found: dict[str, Metric] = {}
    words = [f"{dataset}.{label}: only {one.label} measured it" for label in before if label not in after]
    for label, measured in after.items():
        if label not in before:
            words.append(f"{dataset}.{label}: only {other.label} measured it")
            continue
        if not (before[label].num and measured.num):
            words.append(f"{dataset}.{label}: no example was scored")
            continue
        metric = _how_added_up(one, other, before[label], measured)
        if metric is None:
            words.append(f"{dataset}.{label}: its scores do not add up to the figures of both runs")
        else:
            found[label] = metric
    return found, words


def _measured(run: EvalRun, dataset: str) -> dict[str, Measured]:
    return {each.metric: each for each in run.result.measured if (each.target, each.dataset) == (run.target, dataset)}


def _how_added_up(one: EvalRun, other: EvalRun, before: Measured, after: Measured) -> Metric | None:
    """The metric whose scores give the figures of both runs: their mean, or as the job file has it; None: neither."""
    if (before.unit, before.higher_is_better) != (after.unit, after.higher_is_better):
        return None
    for adding in _ways(other, after):
        metric = _Recorded(name=after.metric, unit=after.unit, higher_is_better=after.higher_is_better, adding=adding)
        if _gives(metric, one, before) and _gives(metric, other, after):
            return metric
    return None


def _ways(run: EvalRun, measured: Measured) -> Iterator[Metric | None]:
    """How scores may become one figure: by their mean (None), or as the metric of the job file does it."""
    yield None
    opened = _opened(run, measured)
    if opened is not None:
        yield opened


def _opened(run: EvalRun, measured: Measured) -> Metric | None:
    """The metric as the run's job file has it; None where it cannot be opened here (a plugin that is gone, a judge)."""
    from genai.evaluation.metrics.registry import open_metric

    kind = next((row.kind for key, row in run.rows.items() if key[0] == measured.dataset), None)
    if kind is None:
        return None
    try:
        return open_metric(_metric_config(run.config, measured.metric), judges={}, kind=kind)
    except GenaiError:
        return None


def _metric_config(config: Mapping[str, Any], label: str) -> MetricConfig:
    """What the job file says of a metric; one that it does not name has no settings."""
    known = {field.name for field in fields(MetricConfig)}
    for entry in config.get("metrics") or ():
        if isinstance(entry, Mapping) and label in (entry.get("label"), entry.get("name")):
            return MetricConfig(**{str(name): value for name, value in entry.items() if name in known})
    return MetricConfig(name=label)


def _gives(metric: Metric, run: EvalRun, measured: Measured) -> bool:
    """Whether a metric adds the scores of a run up to the figure that the run has."""
    parts = [
        score.parts
        for key, row in run.rows.items()
        if key[0] == measured.dataset and isinstance(score := row.scores.get(measured.metric), Score)
    ]
    if len(parts) != measured.num or len({len(each) for each in parts}) != 1 or not parts[0]:
        return False
    value = float(metric.aggregate(np.array(parts, dtype=np.float64), np.ones((1, len(parts))))[0])
    return math.isclose(value, measured.value, rel_tol=_SAME, abs_tol=_SAME)


def _statistics(config: Mapping[str, Any]) -> StatisticsConfig:
    known = {field.name for field in fields(StatisticsConfig)}
    return StatisticsConfig(
        **{name: value for name, value in (config.get("statistics") or {}).items() if name in known}
    )


def _seed(config: Mapping[str, Any]) -> int:
    return int(config.get("seed", 17))


# --- example by example -----------------------------------------------------------------------------------------------


def _changes(one: EvalRun, other: EvalRun, measured: Sequence[Measured]) -> tuple[ExampleChange, ...]:
    changes = []
    for each in measured:
        found = [
            change
            for key, row in other.rows.items()
            if key[0] == each.dataset and key in one.rows
            if (change := _change(one.rows[key], row, each)) is not None
        ]
        changes += sorted(found, key=lambda change: -abs(change.second - change.first))
    return tuple(changes)


def _change(before: ExampleRow, after: ExampleRow, measured: Measured) -> ExampleChange | None:
    first, second = before.scores.get(measured.metric), after.scores.get(measured.metric)
    if not (isinstance(first, Score) and isinstance(second, Score)) or first.value is None or second.value is None:
        return None
    verdict = verdict_of(second.value, first.value, lower_is_better=not measured.higher_is_better)
    if verdict in (None, "tied"):
        return None
    return ExampleChange(
        dataset=after.dataset,
        id=after.id,
        metric=measured.metric,
        first=first.value,
        second=second.value,
        verdict=verdict,
        question=after.question[:_QUESTION_CHARACTERS],
    )


def _page(compared: Compared, one: EvalRun, other: EvalRun, keys: Sequence[tuple[str, str]]) -> str:
    # both runs may call their target alike
    named = {
        label: [replace(run.rows[key], target=label) for key in keys]
        for label, run in ((compared.first, one), (compared.second, other))
    }
    cards, num_examples = example_cards(
        named, baseline=compared.first, lower_is_better=lower_is_better(compared.measured)
    )
    report = ComparisonReport(
        run_name=f"{compared.first} and {compared.second}",
        first=compared.first,
        second=compared.second,
        facts={"examples": f"{compared.num_examples:,}"},
        measures=measure_rows(compared.measured),
        left_out=compared.left_out,
        examples=cards,
        num_examples=num_examples,
    )
    return render_comparison_report(report)
