"""How far a judge agrees with people, found out before anything rests on its scores.

Agreement is counted beyond what chance gives: Cohen's kappa with quadratic weights (a score that is off by one is a
smaller fault than one that is off by four; of two scores it is the plain kappa) and Krippendorff's alpha. Where people
said only good or bad, the judge's score is cut at the threshold that fits them; kappa then comes from rows that the
threshold was not fitted to.

Source: Cohen 1968, "Weighted kappa"; Krippendorff 2004, "Content Analysis", chapter 11.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genai.evaluation.costing import add
from genai.evaluation.judges.human_scores import HumanScore, are_yes_or_no
from genai.evaluation.judges.judge import Judge
from genai.evaluation.judges.judged_metric import JudgedMetric
from genai.evaluation.metrics.win_rate import WinRate
from genai.evaluation.records import Score, Unscored, Usage
from genai.log import get_logger, progress
from genai.metrics.agreement import best_threshold, cohen_kappa, confusion, krippendorff_alpha

MIN_ROWS = 10
"""On fewer rows a judge is not calibrated, whatever they say."""
MAX_UNSCORED = 0.2
"""A judge that says nothing of a larger share of rows is not calibrated."""
_FOLDS = 10
_RESAMPLES = 1000
_MAX_PAIRS = 500
_MAX_STEPS = 10
"""A longer scale is compared in so many steps: nobody means 71 rather than 72 of 100."""
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How far one judge agrees with people in one metric."""

    judge: str
    metric: str
    """Its label."""
    kappa: float
    """Cohen's, with quadratic weights; nan where all gave the same score."""
    kappa_low: float
    """Lower end of its interval (bootstrap, 0.95)."""
    kappa_high: float
    alpha: float
    """Krippendorff's, on the ordinal scale."""
    labels: tuple[str, ...]
    """Of rows and columns of `confusion`."""
    confusion: tuple[tuple[int, ...], ...]
    """Answers by what people said (row) and what the judge said (column)."""
    threshold: float | None
    """From which score of the judge (0..1) on people call an answer good, as well as one can tell."""
    num: int
    """Rows that the judge scored."""
    num_unscored: int
    """Rows of which it said nothing."""
    min_kappa: float
    """That is asked for."""
    passed: bool
    """Whether its scores may decide a gate."""
    reason: str
    """Why, in figures."""
    fingerprint: str
    """Of judge and prompts; another one needs another calibration."""
    usage: Usage

    def lines(self) -> list[str]:
        """For people: the verdict, the figures, the table of confusion."""
        first = f"judge {self.judge}, {self.metric}: {'agrees' if self.passed else 'does not agree'} with people"
        width = max([5, *map(len, self.labels)]) + 2
        if not self.confusion:
            return [f"{first}: {self.reason}"]
        head = "people \\ judge".ljust(16) + "".join(label.rjust(width) for label in self.labels)
        table = [
            f"{label:<16}" + "".join(f"{count:>{width}}" for count in row)
            for label, row in zip(self.labels, self.confusion, strict=True)
        ]
        threshold = [] if self.threshold is None else [f"threshold that fits people best: {self.threshold:.3g} of 1"]
        return [f"{first}: {self.reason}", *threshold, head, *table]


async def calibrate(
    judge: Judge, rows: Sequence[HumanScore], *, metric: JudgedMetric | WinRate, label: str | None = None
) -> Calibration:
    """Let a judge score what people have scored, and see how far it agrees.

    Args:
        judge: open, with `calibration` in its config.
        rows: see `genai.evaluation.judges.human_scores.read_human_scores`.
        metric: what it scores by. Of `win_rate` the rows are paired: two answers to the same prompt that people scored
            differently.
        label: of the metric in results.

    Raises:
        GenaiError: the judge's target fails for all questions alike.
    """
    alone = metric.only(judge)
    label = label or metric.name
    if isinstance(alone, WinRate):
        judged = await _compared(alone, rows)
    else:
        judged = await _scored(alone, rows, judge.scale)
    return _calibration(judge, label, judged, alone.fingerprint)


async def calibrate_all(metrics: Mapping[str, Any], rows: Mapping[str, Sequence[HumanScore]]) -> list[Calibration]:
    """Calibrate every judge that has rows, in every metric that asks it.

    Args:
        metrics: label -> metric; those that ask no judge are passed over.
        rows: judge -> rows.

    Raises:
        GenaiError: a judge's target fails for all questions alike.
    """
    wanted = [
        (label, metric, judge)
        for label, metric in metrics.items()
        if isinstance(metric, JudgedMetric | WinRate)
        for judge in metric.judges
        if rows.get(judge.name)
    ]
    found: list[Calibration] = []
    with progress("calibrating judges", len(wanted)) as task:
        for number, (label, metric, judge) in enumerate(wanted, 1):
            found.append(await calibrate(judge, rows[judge.name], metric=metric, label=label))
            task.update(number)
    return found


def is_trusted(label: str, metric: Any, calibrations: Sequence[Calibration]) -> bool:
    """Whether a gate may rest on a metric: one that asks no judge, or whose judges all agree with people in it.

    Args:
        label: of the metric.
        metric: itself.
        calibrations: all of the job.
    """
    if not isinstance(metric, JudgedMetric | WinRate):
        return True
    passed = {each.judge for each in calibrations if each.metric == label and each.passed}
    return all(judge.name in passed for judge in metric.judges)


# --- what people say and what the judge says --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """People and judge, row by row."""

    people: NDArray[np.float64]
    """(n,), 0..1."""
    judge: NDArray[np.float64]
    """(n,), 0..1."""
    steps: int
    """0..1 is cut into so many steps; of good and bad one."""
    names: tuple[str, ...]
    """Of the steps, one more than there are."""
    is_cut: bool
    """Whether the judge's score must be cut at a threshold to be compared."""
    num_unscored: int
    why_unscored: str
    usage: Usage


async def _scored(metric: JudgedMetric, rows: Sequence[HumanScore], scale: tuple[int, int]) -> _Judged:
    scores = await asyncio.gather(*(metric.score(row.example, row.answer) for row in rows))
    is_cut = are_yes_or_no(rows, scale)
    low, high = (0, 1) if is_cut else scale
    people = [(row.score - low) / (high - low) for row in rows]
    steps = min(high - low, _MAX_STEPS)
    names = ("bad", "good") if is_cut else tuple(f"{low + step * (high - low) / steps:g}" for step in range(steps + 1))
    return _judged(people, scores, names=names, is_cut=is_cut)


async def _compared(metric: WinRate, rows: Sequence[HumanScore]) -> _Judged:
    pairs = _pairs(rows)
    scores = await asyncio.gather(
        *(metric.compare(first.example, first.answer, second.answer) for first, second in pairs)
    )
    people = [float(first.score > second.score) for first, second in pairs]
    return _judged(people, scores, names=("second", "neither", "first"), is_cut=False)


def _pairs(rows: Sequence[HumanScore]) -> list[tuple[HumanScore, HumanScore]]:
    """Answers to the same prompt that people scored differently; the better one stands first every other time."""
    of_prompt: dict[tuple[object, ...], list[HumanScore]] = {}
    for row in rows:
        of_prompt.setdefault((row.example.question, row.example.references, row.example.contexts), []).append(row)
    pairs = [
        (first, second)
        for alike in of_prompt.values()
        for number, first in enumerate(alike)
        for second in alike[number + 1 :]
        if first.score != second.score
    ][:_MAX_PAIRS]
    return [
        pair if (pair[0].score > pair[1].score) == (number % 2 == 0) else (pair[1], pair[0])
        for number, pair in enumerate(pairs)
    ]


def _judged(
    people: Sequence[float], scores: Sequence[Score | Unscored], *, names: tuple[str, ...], is_cut: bool
) -> _Judged:
    usage = Usage()
    for score in scores:
        usage = add(usage, score.usage or Usage())
    both = [(human, score.value) for human, score in zip(people, scores, strict=True) if isinstance(score, Score)]
    unscored = [score.reason for score in scores if isinstance(score, Unscored)]
    return _Judged(
        people=np.array([human for human, _ in both], dtype=np.float64),
        judge=np.array([value for _, value in both], dtype=np.float64),
        steps=len(names) - 1,
        names=names,
        is_cut=is_cut,
        num_unscored=len(unscored),
        why_unscored=unscored[0] if unscored else "",
        usage=usage,
    )


# --- figures ----------------------------------------------------------------------------------------------------------


def _calibration(judge: Judge, label: str, judged: _Judged, fingerprint: str) -> Calibration:
    assert judge.config.calibration is not None, "only a judge with a calibration is calibrated"
    min_kappa = judge.config.calibration.min_kappa
    num = len(judged.people)
    people = _steps(judged.people, judged.steps)
    said = _cut(judged.judge, people) if judged.is_cut else _steps(judged.judge, judged.steps)
    kappa = _kappa(people, said, judged.steps)
    low, high = _kappa_interval(people, said, judged.steps)
    fault = _fault(judged, num, kappa, min_kappa)
    figures = f"kappa {kappa:.2f} ({low:.2f} to {high:.2f}) on {num} answers, at least {min_kappa:g} asked for"
    return Calibration(
        judge=judge.name,
        metric=label,
        kappa=kappa,
        kappa_low=low,
        kappa_high=high,
        alpha=_alpha(people, said),
        labels=judged.names,
        confusion=_confusion(people, said, judged.steps),
        threshold=_threshold(judged),
        num=num,
        num_unscored=judged.num_unscored,
        min_kappa=min_kappa,
        passed=fault is None,
        reason=figures if fault is None else f"{fault}; {figures}" if num else fault,
        fingerprint=fingerprint,
        usage=judged.usage,
    )


def _fault(judged: _Judged, num: int, kappa: float, min_kappa: float) -> str | None:
    """Why a judge is not to be trusted; None when it is."""
    total = num + judged.num_unscored
    if total and judged.num_unscored / total > MAX_UNSCORED:
        return f"no verdict on {judged.num_unscored} of {total} ({judged.why_unscored})"
    if num < MIN_ROWS:
        what = "pairs of answers to one prompt with different scores" if "neither" in judged.names else "scored answers"
        return f"{num} {what} are too few, {MIN_ROWS} are needed"
    if math.isnan(kappa):
        return "people or judge gave every answer the same score, so that nothing can be told"
    return None if kappa >= min_kappa else "it agrees too little"


def _steps(shares: NDArray[np.float64], steps: int) -> NDArray[np.int64]:
    """0..1 as whole steps, halves upwards."""
    return np.floor(shares * steps + 0.5).astype(np.int64)


def _cut(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Scores as good or bad, by the threshold that fits the other rows: each tenth is cut by what the rest says."""
    said = np.zeros(len(scores), dtype=np.int64)
    order = np.lexsort((scores, labels))
    for fold in range(_FOLDS):
        held_out = order[fold::_FOLDS]
        others = np.setdiff1d(order, held_out)
        if len(np.unique(labels[others])) < 2:
            others = order
        if len(held_out) and len(np.unique(labels[others])) == 2:
            said[held_out] = scores[held_out] >= _best(scores[others], labels[others])
    return said


def _threshold(judged: _Judged) -> float | None:
    """From which score on people call an answer good: beyond the middle of their scale, or where they said so."""
    good = (judged.people > 0.5).astype(np.int64)
    if "neither" in judged.names or len(np.unique(good)) < 2:
        return None
    return _best(judged.judge, good)


def _best(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    return best_threshold(scores.tolist(), labels.astype(bool).tolist())


def _kappa(people: NDArray[np.int64], said: NDArray[np.int64], steps: int) -> float:
    if len(people) == 0 or len(np.unique(people)) < 2 or len(np.unique(np.concatenate([people, said]))) < 2:
        return math.nan
    return cohen_kappa(people.tolist(), said.tolist(), weights="quadratic", labels=range(steps + 1))


def _kappa_interval(people: NDArray[np.int64], said: NDArray[np.int64], steps: int) -> tuple[float, float]:
    """Percentiles over rows drawn anew, which is the table of confusion drawn anew; resamples in which all are alike
    say nothing and are left out.
    """
    if not len(people):
        return math.nan, math.nan
    labels = steps + 1
    shares = np.bincount(people * labels + said, minlength=labels * labels) / len(people)
    tables_RKK = np.random.default_rng(17).multinomial(len(people), shares, size=_RESAMPLES).reshape(-1, labels, labels)
    distance_KK = np.subtract.outer(np.arange(labels), np.arange(labels)) ** 2
    seen_R = (tables_RKK * distance_KK).sum(axis=(1, 2))
    by_chance_R = np.einsum("rk,rl,kl->r", tables_RKK.sum(axis=2), tables_RKK.sum(axis=1), distance_KK) / len(people)
    if not (by_chance_R > 0).any():
        return math.nan, math.nan
    low, high = np.quantile(1 - seen_R[by_chance_R > 0] / by_chance_R[by_chance_R > 0], [0.025, 0.975])
    return float(low), float(high)


def _alpha(people: NDArray[np.int64], said: NDArray[np.int64]) -> float:
    if len(np.unique(np.concatenate([people, said]))) < 2:
        return math.nan
    return krippendorff_alpha(np.array([people, said], dtype=np.float64), level="ordinal")


def _confusion(people: NDArray[np.int64], said: NDArray[np.int64], steps: int) -> tuple[tuple[int, ...], ...]:
    if not len(people):
        return ()
    return confusion(people.tolist(), said.tolist(), labels=range(steps + 1)).counts
