"""From outcomes to scores: every metric looks at every example, judges several at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from genai.evaluation.interfaces import Metric
from genai.evaluation.judges.calibration import Calibration, is_trusted
from genai.evaluation.judges.judge import Judge
from genai.evaluation.judges.judged_metric import JudgedMetric
from genai.evaluation.judges.notes import notes_of
from genai.evaluation.metrics.win_rate import WinRate
from genai.evaluation.records import Example, Failure, Outcome, Score, Scored, Unscored
from genai.jobs.eval_inputs import Suite
from genai.log import progress

_AT_ONCE = 256
"""Examples whose scores are under way: judges take so many of them as they can."""
Outcomes = Mapping[str, Sequence[Outcome]]
"""Data set -> outcomes, in the order of its examples."""


async def score_suite(
    suite: Suite, outcomes: Sequence[Outcome], *, name: str, baseline: Sequence[Outcome] | None = None
) -> list[Scored]:
    """The examples of a data set with what its metrics say.

    Args:
        suite: the data set.
        outcomes: of its examples, in their order.
        name: of the target, for the progress bar.
        baseline: what the baseline said; without it nothing is compared side by side.
    """
    scored: list[Scored] = []
    others: Sequence[Outcome | None] = [None] * len(outcomes) if baseline is None else baseline
    rows = list(zip(suite.examples, outcomes, others, strict=True))
    with progress(f"scoring {name} on {suite.name}", len(rows)) as task:
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            scored += await asyncio.gather(*(_scored(suite.metrics, *row) for row in some))
            task.update(len(scored))
    return scored


async def _scored(metrics: Mapping[str, Metric], example: Example, outcome: Outcome, other: Outcome | None) -> Scored:
    scores = await asyncio.gather(*(_score(metric, example, outcome, other) for metric in metrics.values()))
    found = {label: score for label, score in zip(metrics, scores, strict=True) if score is not None}
    return Scored(example=example, outcome=outcome, scores=found)


async def _score(metric: Metric, example: Example, outcome: Outcome, other: Outcome | None) -> Score | Unscored | None:
    """None where there is nothing to look at, which is counted elsewhere."""
    if isinstance(outcome, Failure):
        return None
    if isinstance(metric, WinRate):
        return None if other is None else await metric.compare(example, outcome, other)
    return await metric.score(example, outcome)


def asks_judges(suites: Sequence[Suite]) -> bool:
    """Whether any metric does."""
    return any(isinstance(metric, JudgedMetric | WinRate) for suite in suites for metric in suite.metrics.values())


async def open_judges(judges: Mapping[str, Judge], stack: AsyncExitStack) -> None:
    """Get all judges ready, until the stack is left."""
    for judge in judges.values():
        await stack.enter_async_context(judge)


def doubts(suite: Suite, calibrations: Sequence[Calibration]) -> dict[str, str]:
    """Label -> why no gate may rest on it."""
    found: dict[str, str] = {}
    for label, metric in suite.metrics.items():
        if not is_trusted(label, metric, calibrations):
            reasons = [each.reason for each in calibrations if each.metric == label and not each.passed]
            found[label] = f"the judge is not to be trusted: {'; '.join(reasons) or 'it was not calibrated'}"
    return found


def judge_notes(suite: Suite, scored: Sequence[Scored]) -> dict[str, tuple[str, ...]]:
    """Label of a judged metric -> what should be said beside its figure."""
    return {
        label: notes_of([each.scores[label] for each in scored if label in each.scores])
        for label, metric in suite.metrics.items()
        if isinstance(metric, JudgedMetric | WinRate)
    }
