"""Metrics of several targets as tables and charts: values with intervals, differences from a baseline, slices."""

from __future__ import annotations

import math
from collections.abc import Sequence

from genai.report.evaluation_contents import DifferenceRow, MeasureRow, SliceRow
from genai.report.html import Child, Html, element, join
from genai.report.intervals import Interval, interval_chart
from genai.report.numbers import compact, count
from genai.report.pieces import table, tone

_COLOURS = 4
_NAME_CHARACTERS = 13
"""The margin of a chart has room for as many."""
_MOST_SLICES = 12
_DIFFERENCE_NOTE = (
    "On the examples that both have a score for. A coloured difference is significant: p, by permutation within pairs "
    "and corrected for all comparisons, lies below alpha. n for 0.02: examples that it takes to see a difference of 2 "
    "points."
)


def figure(value: float, unit: str = "") -> str:
    """A measure as people read it: `0.412`, `1.73 s`, `$0.012`."""
    if not math.isfinite(value):
        return "n/a"
    if unit == "usd":
        return f"${value:.4g}"
    text = f"{value:.3f}" if abs(value) < 10 else compact(value, 4)
    return f"{text} {unit}" if unit else text


def signed(value: float, unit: str = "") -> str:
    """A difference, with its sign."""
    if not math.isfinite(value):
        return "n/a"
    return f"{'+' if value >= 0 else '-'}{figure(abs(value), unit)}"


def is_better(measure: MeasureRow, difference: float) -> bool:
    """Whether a difference in this metric is a gain."""
    return difference > 0 if measure.higher_is_better else difference < 0


def difference_pill(measure: MeasureRow, difference: DifferenceRow) -> Html:
    """The difference as a coloured word; neutral where chance alone might bring it."""
    colour = tone(is_better(measure, difference.difference)) if difference.significant else "neutral"
    return element("span", signed(difference.difference, measure.unit), class_=f"pill {colour}")


def datasets_of(measures: Sequence[MeasureRow]) -> list[str]:
    """Their data sets, in order."""
    return list(dict.fromkeys(measure.dataset for measure in measures))


def value_table(measures: Sequence[MeasureRow], columns: Sequence[str], baseline: str | None) -> Html:
    """One row a metric, one column a target: the value, its interval, and the difference from the baseline.

    Args:
        measures: of one data set.
        columns: targets, in the order of the columns.
        baseline: which one is the baseline.
    """
    metrics = list(dict.fromkeys(measure.metric for measure in measures))
    found = {(measure.metric, measure.target): measure for measure in measures}
    heads = [f"{name} (baseline)" if name == baseline else name for name in columns]
    rows = [_value_row(metric, [found.get((metric, name)) for name in columns]) for metric in metrics]
    return table(["", *heads], rows, "values")


def _value_row(metric: str, cells: Sequence[MeasureRow | None]) -> Html:
    known = [cell for cell in cells if cell is not None]
    arrow = "" if known[0].higher_is_better else "lower is better"
    return element(
        "tr",
        element("th", metric, element("small", f" {arrow}") if arrow else None, scope="row"),
        *(element("td", *_value_cell(cell), class_="number") for cell in cells),
    )


def _value_cell(measure: MeasureRow | None) -> list[Child]:
    if measure is None:
        return ["-"]
    unit = measure.unit
    parts: list[Child] = [element("b", figure(measure.value, unit))]
    if measure.difference is not None:
        parts += [" ", difference_pill(measure, measure.difference)]
    ends = f"{figure(measure.low, unit)} to {figure(measure.high, unit)}"
    parts.append(element("small", f"{ends}, {count(measure.num)} examples", class_="line"))
    parts += [element("small", words, class_="line") for words in _remarks(measure)]
    return parts


def _remarks(measure: MeasureRow) -> list[str]:
    """What must not be overlooked beside a figure."""
    remarks = [] if measure.trusted else ["no gate may rest on it"]
    remarks += [f"{count(measure.num_failed)} without an answer"] if measure.num_failed else []
    return remarks + ([f"{count(measure.num_unscored)} could not be scored"] if measure.num_unscored else [])


def note_list(measures: Sequence[MeasureRow]) -> Html | None:
    """What is to be said of figures in words: each note once, with whom it is about."""
    about: dict[str, list[str]] = {}
    for measure in measures:
        for note in measure.notes:
            about.setdefault(note, []).append(f"{measure.metric} of {measure.target}")
    if not about:
        return None
    every = len({(measure.metric, measure.target) for measure in measures})
    lines = [note if len(names) == every else f"{', '.join(names)}: {note}" for note, names in about.items()]
    return element("ul", *(element("li", line) for line in lines), class_="note")


def difference_section(measures: Sequence[MeasureRow], *, baseline: str, columns: Sequence[str]) -> Html | None:
    """Charts and table of all comparisons; None when there are none.

    Args:
        measures: of all data sets; those without a comparison are left out.
        baseline: what they are compared with.
        columns: targets, in the order of the colours.
    """
    compared = [measure for measure in measures if measure.difference is not None]
    if not compared:
        return None
    charts = [
        chart
        for dataset in datasets_of(compared)
        for chart in _charts(
            f"Differences on {dataset}",
            [each for each in compared if each.dataset == dataset],
            columns,
            of_difference=True,
        )
    ]
    found = element("div", _difference_table(compared, baseline), class_="block")
    return join([element("div", *charts, class_="charts"), found, element("p", _DIFFERENCE_NOTE, class_="note")])


def _difference_table(compared: Sequence[MeasureRow], baseline: str) -> Html:
    """Every comparison with its interval, its p-value, and on how many examples which one is better."""
    several = len({measure.target for measure in compared}) > 1
    rows = [_difference_row(measure, measure.difference, named=several) for measure in compared if measure.difference]
    columns = ["", baseline, "value", "difference", "interval", "p", "wins", "losses", "ties", "n for 0.02"]
    return table([*(["target"] if several else []), *columns], rows, "differences named" if several else "differences")


def _difference_row(measure: MeasureRow, difference: DifferenceRow, *, named: bool) -> Html:
    unit = measure.unit
    needed = "" if difference.needed is None else count(difference.needed)
    ends = f"{signed(difference.low, unit)} to {signed(difference.high, unit)}"
    cells = [
        figure(difference.baseline, unit),
        figure(difference.value, unit),
        difference_pill(measure, difference),
        ends,
        p_value(difference.p_value),
        count(difference.wins),
        count(difference.losses),
        count(difference.ties),
        needed,
    ]
    return element(
        "tr",
        element("th", measure.target, scope="row") if named else None,
        element("th", f"{measure.dataset}.{measure.metric}", scope="row"),
        *(element("td", cell, class_="number") for cell in cells),
    )


def p_value(value: float) -> str:
    """A p-value as people read it: `0.031`, `< 0.001`."""
    if not math.isfinite(value):
        return "n/a"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def value_charts(measures: Sequence[MeasureRow], columns: Sequence[str]) -> list[Html]:
    """Values with their intervals: shares on one axis, everything else on an axis of its own.

    Args:
        measures: of one data set.
        columns: targets, in the order of the colours.
    """
    return _charts("Values", measures, columns, of_difference=False)


def _charts(title: str, measures: Sequence[MeasureRow], columns: Sequence[str], *, of_difference: bool) -> list[Html]:
    drawn = [
        _chart(title, group, columns, of_difference=of_difference)
        for first in range(0, max(1, len(columns)), _COLOURS)
        for group in _axes(measures, columns[first : first + _COLOURS])
    ]
    return [each for each in drawn if each is not None]


def _axes(measures: Sequence[MeasureRow], columns: Sequence[str]) -> list[list[MeasureRow]]:
    """Measures that can share an axis: shares all together, others metric by metric."""
    groups: dict[str, list[MeasureRow]] = {}
    for measure in measures:
        if measure.target in columns:
            is_share = not measure.unit and 0 <= measure.value <= 1
            groups.setdefault("" if is_share else measure.metric, []).append(measure)
    return list(groups.values())


def _chart(title: str, measures: Sequence[MeasureRow], columns: Sequence[str], *, of_difference: bool) -> Html | None:
    unit = measures[0].unit
    rows: dict[str, list[Interval]] = {}
    for measure in measures:
        interval = _interval(measure, columns.index(measure.target) % _COLOURS + 1, of_difference=of_difference)
        rows.setdefault(_short(measure.metric), []).append(interval)
    named = title if not unit else f"{title} ({unit})"
    text = signed if of_difference else figure
    return interval_chart(named, list(rows.items()), text=text, rule_at=0 if of_difference else None)


def _interval(measure: MeasureRow, colour: int, *, of_difference: bool) -> Interval:
    if not of_difference or measure.difference is None:
        return Interval(name=measure.target, value=measure.value, low=measure.low, high=measure.high, colour=colour)
    found = measure.difference
    return Interval(name=measure.target, value=found.difference, low=found.low, high=found.high, colour=colour)


def _short(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}…"


def slice_tables(measures: Sequence[MeasureRow], *, baseline: str | None) -> Html | None:
    """The slices of every metric, worst first; the first table is open, the others are folded.

    Args:
        measures: scores come before times and costs.
        baseline: a target that comes last.
    """
    ordered = sorted(measures, key=lambda measure: (measure.target == baseline, bool(measure.unit)))
    sliced = [measure for measure in ordered if measure.slices]
    if not sliced:
        return None
    tables = [
        element(
            "details",
            element("summary", _worst(measure)),
            table(["slice", "", "examples", "interval", ""], _slice_rows(measure), "slices"),
            _rest(len(measure.slices) - _MOST_SLICES),
            open=number == 0,
        )
        for number, measure in enumerate(sliced)
    ]
    return join(tables)


def _worst(measure: MeasureRow) -> str:
    worst = measure.slices[0]
    value = f"{figure(worst.measured, measure.unit)} against {figure(measure.value, measure.unit)} in all"
    return f"{measure.dataset}.{measure.metric} of {measure.target}: worst {worst.column} {worst.value}, {value}"


def _slice_rows(measure: MeasureRow) -> list[Html]:
    return [_slice_row(measure, each) for each in measure.slices[:_MOST_SLICES]]


def _rest(number: int) -> Html | None:
    return element("p", f"and {count(number)} better ones", class_="note") if number > 0 else None


def _slice_row(measure: MeasureRow, row: SliceRow) -> Html:
    difference = row.measured - measure.value
    is_clear = row.high < measure.value or row.low > measure.value
    colour = tone(is_better(measure, difference)) if is_clear else "neutral"
    return element(
        "tr",
        element("th", f"{row.column} ", element("b", row.value), scope="row"),
        element("td", figure(row.measured, measure.unit), class_="number"),
        element("td", count(row.num), class_="number"),
        element("td", f"{figure(row.low, measure.unit)} to {figure(row.high, measure.unit)}", class_="number"),
        element("td", element("span", signed(difference, measure.unit), class_=f"pill {colour}"), class_="number"),
    )
