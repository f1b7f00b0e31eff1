"""From what metrics say of single examples to figures with intervals, slices and comparisons.

    measure   the scores of one target on one data set     -> Measured, one a metric
    correct   all of a job                                  -> the same with p-values corrected for their number

An example without an answer, and an answer of which a metric can say nothing, is counted and left out: it is never a
score of zero. A comparison looks only at examples that target and baseline both have a score for.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genai.config.eval import StatisticsConfig
from genai.evaluation.interfaces import Floats, Metric
from genai.evaluation.records import Comparison, Failure, Measured, Score, Scored, SliceValue
from genai.metrics.resampling import Figure, cluster_numbers, figure_of, interval_of, resample
from genai.metrics.sample_size import EFFECT, examples_for, power_of
from genai.metrics.significance import adjust, paired_permutation

FEW = 20
"""With fewer independent clusters an interval is too narrow, as resamples of few are too much alike."""
_SMALLEST_SLICE = 5
"""Smaller slices are listed after the others: nearly always one of them has only bad luck."""
_EQUAL = 1e-9
"""Scores that differ by less are a tie."""

Rows = NDArray[np.intp]


# --- figures ----------------------------------------------------------------------------------------------------------


def measure(
    target: str,
    scored: Sequence[Scored],
    metrics: Mapping[str, Metric],
    *,
    baseline: Sequence[Scored] | None = None,
    statistics: StatisticsConfig,
    seed: int = 0,
    untrusted: Mapping[str, str] | None = None,
) -> list[Measured]:
    """Add up what metrics say of the examples of one data set.

    Args:
        target: its name.
        scored: its outcomes with their scores, all of one data set.
        metrics: label -> metric, in the order of the result.
        baseline: the same of what it is compared with; examples are found by their id.
        statistics: how sure one wants to be.
        seed: of the resamples; the same for all metrics, so that they are drawn only once.
        untrusted: label -> why no gate may rest on it.

    Returns:
        One a metric; p-values are not corrected yet, see `correct`. Where nothing was scored, its figures are nan.
    """
    if not scored:
        return []
    draws = _Draws([each.example.cluster for each in scored], statistics, seed)
    others = {} if baseline is None else {each.example.id: each for each in baseline}
    plans = [_Plan(label, metric, scored, others, draws) for label, metric in metrics.items()]
    return [plan.measured(target, (untrusted or {}).get(plan.label)) for plan in plans]


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """The examples of which both have a score, in the same order."""

    rows: Rows
    """Their places among all examples."""
    ours: Sequence[Score]
    theirs: Sequence[Score]


class _Plan:
    """One metric: says first what is to be resampled, and later makes a result of it."""

    def __init__(
        self, label: str, metric: Metric, scored: Sequence[Scored], others: Mapping[str, Scored], draws: _Draws
    ) -> None:
        self.label, self._metric, self._scored, self._draws = label, metric, scored, draws
        found = [(row, score) for row, each in enumerate(scored) if (score := _score_of(each, label)) is not None]
        self._rows: Rows = np.array([row for row, _ in found], dtype=np.intp)
        self._scores = [score for _, score in found]
        self._parts_NP = _parts(self._scores)
        self._value = draws.want(self._rows, self._figure(self._parts_NP)) if found else None
        self._slices = {
            key: (places, draws.want(self._rows, self._figure(self._parts_NP[places], places)))
            for key, places in _slices(scored, self._rows).items()
        }
        self._pairs = _pair(label, scored, found, others)
        self._difference: _Key | None = None
        if self._pairs is not None:
            ours, theirs = self._figure(_parts(self._pairs.ours)), self._figure(_parts(self._pairs.theirs))
            self._difference = draws.want(self._pairs.rows, lambda weights_RN: ours(weights_RN) - theirs(weights_RN))

    def _figure(self, parts_NP: Floats, places: Rows | None = None) -> Figure:
        """The metric's, of all rows or of those at some places."""
        if places is None:
            return lambda weights_RN: self._metric.aggregate(parts_NP, weights_RN)
        return lambda weights_RN: self._metric.aggregate(parts_NP, np.take(weights_RN, places, axis=1))

    def measured(self, target: str, doubt: str | None) -> Measured:
        """The result.

        Args:
            target: its name.
            doubt: why no gate may rest on it; None: one may.
        """
        num_failed = sum(isinstance(each.outcome, Failure) for each in self._scored)
        num_clusters = cluster_numbers([self._scored[row].example.cluster for row in self._rows])[1]
        value = _told(self._parts_NP, self._metric) if len(self._rows) else math.nan
        low, high = (math.nan, math.nan) if self._value is None else self._draws.interval(self._value)
        comparison = None if self._pairs is None else self._compared(self._pairs)
        notes = [*self._cautions(value, num_clusters), *_hint(comparison, self._draws.statistics, self._error())]
        return Measured(
            target=target,
            dataset=self._scored[0].example.dataset,
            metric=self.label,
            value=value,
            low=low,
            high=high,
            num=len(self._rows),
            num_clusters=num_clusters,
            num_failed=num_failed,
            num_unscored=len(self._scored) - num_failed - len(self._rows),
            unit=self._metric.unit,
            higher_is_better=self._metric.higher_is_better,
            slices=self._measured_slices(),
            comparison=comparison,
            synthetic=any(each.example.synthetic for each in self._scored),
            trusted=doubt is None,
            notes=tuple([*notes, *([doubt] if doubt else [])]),
        )

    def _measured_slices(self) -> tuple[SliceValue, ...]:
        measured = []
        for (column, value), (places, key) in self._slices.items():
            low, high = self._draws.interval(key)
            figure = _told(self._parts_NP[places], self._metric)
            measured.append(
                SliceValue(column=column, value=value, num=len(places), measured=figure, low=low, high=high)
            )
        towards = 1 if self._metric.higher_is_better else -1
        return tuple(sorted(measured, key=lambda each: _badness(each, towards)))

    def _compared(self, pairs: _Pairs) -> Comparison:
        statistics, aggregate = self._draws.statistics, self._metric.aggregate
        ours_NP, theirs_NP = _parts(pairs.ours), _parts(pairs.theirs)
        value, other = _told(ours_NP, self._metric), _told(theirs_NP, self._metric)
        assert self._difference is not None
        low, high = self._draws.interval(self._difference)
        with np.errstate(divide="ignore", invalid="ignore"):
            p_value = paired_permutation(
                theirs_NP,
                ours_NP,
                aggregate,
                self._clusters(pairs.rows),
                num_resamples=statistics.num_resamples,
                seed=self._draws.seed,
            )
        towards = 1 if self._metric.higher_is_better else -1
        outcomes = Counter(_won(ours, theirs, towards) for ours, theirs in zip(pairs.ours, pairs.theirs, strict=True))
        is_share = self._metric.unit == "" and 0 <= value <= 1 and 0 <= other <= 1
        return Comparison(
            baseline=other,
            value=value,
            difference=value - other,
            low=low,
            high=high,
            p_value=p_value,
            p_adjusted=p_value,
            significant=p_value <= statistics.alpha,
            wins=outcomes[1],
            losses=outcomes[-1],
            ties=outcomes[0],
            num=len(pairs.rows),
            needed=self._needed(pairs) if is_share else None,
        )

    def _needed(self, pairs: _Pairs) -> int | None:
        num_clusters = cluster_numbers(self._clusters(pairs.rows))[1]
        statistics = self._draws.statistics
        return examples_for(
            self._error(), len(pairs.rows), num_clusters, effect=EFFECT, alpha=statistics.alpha, power=statistics.power
        )

    def _error(self) -> float:
        """Standard error of the difference."""
        if self._difference is None or self._pairs is None:
            return math.nan
        num_clusters = cluster_numbers(self._clusters(self._pairs.rows))[1]
        return self._draws.spread(self._difference) * math.sqrt(num_clusters / max(1, num_clusters - 1))

    def _clusters(self, rows: Rows) -> list[str | None]:
        return [self._scored[row].example.cluster for row in rows]

    def _cautions(self, value: float, num_clusters: int) -> list[str]:
        if not len(self._rows):
            return ["no example was scored"]
        if math.isnan(value):
            return ["it cannot be told from the examples that were scored"]
        notes = []
        if num_clusters < FEW:
            what = "examples" if num_clusters == len(self._rows) else "independent groups of examples"
            notes.append(f"only {num_clusters} {what}: the interval is rough, and rather too narrow")
        if len(self._rows) > 1 and (self._parts_NP == self._parts_NP[0]).all():
            notes.append("all examples score the same, so the interval has no width; that does not make it sure")
        return notes


def _score_of(each: Scored, label: str) -> Score | None:
    score = each.scores.get(label)
    return score if isinstance(score, Score) and not isinstance(each.outcome, Failure) else None


def _parts(scores: Sequence[Score]) -> Floats:
    if not scores:
        return np.zeros((0, 1))
    return np.array([score.parts for score in scores], dtype=np.float64)


def _told(parts_NP: Floats, metric: Metric) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        return figure_of(parts_NP, metric.aggregate)


def _slices(scored: Sequence[Scored], rows: Rows) -> dict[tuple[str, str], Rows]:
    """(column, value) -> places among the rows."""
    places: dict[tuple[str, str], list[int]] = {}
    for place, row in enumerate(rows):
        for key in scored[row].example.slices.items():
            places.setdefault(key, []).append(place)
    return {key: np.array(of_key, dtype=np.intp) for key, of_key in places.items()}


def _badness(each: SliceValue, towards: int) -> tuple[bool, bool, float, str, str]:
    """Sorts the worst slice first, and last those that say little or nothing."""
    is_nan = math.isnan(each.measured)
    return each.num < _SMALLEST_SLICE, is_nan, 0 if is_nan else towards * each.measured, each.column, each.value


def _pair(
    label: str, scored: Sequence[Scored], found: Sequence[tuple[int, Score]], others: Mapping[str, Scored]
) -> _Pairs | None:
    pairs = []
    for row, ours in found:
        other = others.get(scored[row].example.id)
        theirs = None if other is None else _score_of(other, label)
        if theirs is not None:
            pairs.append((row, ours, theirs))
    if not pairs:
        return None
    return _Pairs(
        rows=np.array([row for row, _, _ in pairs], dtype=np.intp),
        ours=[ours for _, ours, _ in pairs],
        theirs=[theirs for _, _, theirs in pairs],
    )


def _won(ours: Score, theirs: Score, towards: int) -> int | None:
    """1, -1 or 0 for a tie; None where an example alone says nothing."""
    if ours.value is None or theirs.value is None:
        return None
    difference = towards * (ours.value - theirs.value)
    return 0 if abs(difference) <= _EQUAL else 1 if difference > 0 else -1


def _hint(comparison: Comparison | None, statistics: StatisticsConfig, error: float) -> list[str]:
    """What was too few to be seen."""
    if comparison is None or comparison.needed is None or comparison.needed <= comparison.num:
        return []
    chance = power_of(error, effect=EFFECT, alpha=statistics.alpha)
    return [
        f"{comparison.num} examples show a difference of {EFFECT:g} with a chance of {100 * chance:.0f} %; "
        f"for {100 * statistics.power:g} % it takes about {comparison.needed}"
    ]


# --- resamples --------------------------------------------------------------------------------------------------------

_Key = tuple[bytes, int]


class _Draws:
    """Resampled figures; those of the same rows are computed from the same resamples, which are drawn once."""

    def __init__(self, clusters: Sequence[str | None], statistics: StatisticsConfig, seed: int) -> None:
        self._clusters, self.statistics, self.seed = clusters, statistics, seed
        self._wanted: dict[bytes, tuple[Rows, list[Figure]]] = {}
        self._drawn: dict[bytes, Floats] = {}

    def want(self, rows: Rows, figure: Figure) -> _Key:
        """Ask for a figure of some rows, before the first result is taken."""
        _, figures = self._wanted.setdefault(rows.tobytes(), (rows, []))
        figures.append(figure)
        return rows.tobytes(), len(figures) - 1

    def drawn(self, key: _Key) -> Floats:
        """(R,), the figure in each resample."""
        rows, number = key
        if rows not in self._drawn:
            wanted, figures = self._wanted[rows]
            clusters = [self._clusters[row] for row in wanted]
            with np.errstate(divide="ignore", invalid="ignore"):
                self._drawn[rows] = resample(
                    figures, clusters, num_resamples=self.statistics.num_resamples, seed=self.seed
                )
        drawn_R: Floats = self._drawn[rows][number]
        return drawn_R

    def interval(self, key: _Key) -> tuple[float, float]:
        """Its ends."""
        interval = interval_of(math.nan, self.drawn(key), confidence=self.statistics.confidence)
        return interval.low, interval.high

    def spread(self, key: _Key) -> float:
        """Standard deviation of the resamples."""
        drawn_R = self.drawn(key)
        told_R = drawn_R[np.isfinite(drawn_R)]
        return float(told_R.std()) if told_R.size else math.nan


# --- the whole job ----------------------------------------------------------------------------------------------------


def correct(measured: Sequence[Measured], statistics: StatisticsConfig) -> list[Measured]:
    """Fill in corrected p-values, over all comparisons of a job, and which differences are significant.

    Args:
        measured: of all targets and data sets.
        statistics: the correction, and how rare chance must be.
    """
    p_values = [each.comparison.p_value for each in measured if each.comparison is not None]
    adjusted = iter(adjust(p_values, statistics.correction))
    return [_corrected(each, next(adjusted), statistics.alpha) if each.comparison else each for each in measured]


def _corrected(measured: Measured, p_adjusted: float, alpha: float) -> Measured:
    assert measured.comparison is not None
    comparison = dataclasses.replace(measured.comparison, p_adjusted=p_adjusted, significant=bool(p_adjusted <= alpha))
    return dataclasses.replace(measured, comparison=comparison)
