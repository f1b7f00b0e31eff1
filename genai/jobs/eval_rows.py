"""What was measured, as rows of a report."""

from __future__ import annotations

from collections.abc import Iterable

from genai.evaluation.records import Comparison, EvalResult, Measured
from genai.report.evaluation_contents import DifferenceRow, MeasureRow, SliceRow

__all__ = ["EvalResult", "Measured", "lower_is_better", "measure_rows"]


def measure_rows(measured: Iterable[Measured]) -> list[MeasureRow]:
    """Every measure with its slices and its difference from the baseline."""
    return [
        MeasureRow(
            target=each.target,
            dataset=each.dataset,
            metric=each.metric,
            value=each.value,
            low=each.low,
            high=each.high,
            num=each.num,
            num_failed=each.num_failed,
            num_unscored=each.num_unscored,
            unit=each.unit,
            higher_is_better=each.higher_is_better,
            trusted=each.trusted,
            notes=[*each.notes, *(["on questions that a model made"] if each.synthetic else [])],
            slices=[
                SliceRow(
                    column=row.column,
                    value=row.value,
                    num=row.num,
                    measured=row.measured,
                    low=row.low,
                    high=row.high,
                )
                for row in each.slices
            ],
            difference=None if each.comparison is None else _difference(each.comparison),
        )
        for each in measured
    ]


def lower_is_better(measured: Iterable[Measured]) -> frozenset[str]:
    """The metrics of which small values are good."""
    return frozenset(each.metric for each in measured if not each.higher_is_better)


def _difference(found: Comparison) -> DifferenceRow:
    return DifferenceRow(
        baseline=found.baseline,
        value=found.value,
        difference=found.difference,
        low=found.low,
        high=found.high,
        p_value=found.p_adjusted,
        significant=found.significant,
        wins=found.wins,
        losses=found.losses,
        ties=found.ties,
        needed=found.needed,
    )
