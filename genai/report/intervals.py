"""Figures with their intervals as inline SVG: one row a name, one line with a dot for each figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from genai.report.html import Html, element
from genai.report.numbers import ticks

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 480.0, 92.0, 16.0, 10.0, 30.0
_MARK_HEIGHT, _ROW_MARGIN = 13.0, 15.0


@dataclass(frozen=True, kw_only=True)
class Interval:
    """One figure between the ends of its interval."""

    name: str
    """What it is of; the legend says so where a row has several."""
    value: float
    low: float
    high: float
    colour: int = 1
    """1 to 4."""


def interval_chart(
    title: str,
    rows: Sequence[tuple[str, Sequence[Interval]]],
    *,
    text: Callable[[float], str],
    rule_at: float | None = None,
) -> Html | None:
    """A figure with all rows over a common axis; None when there is no finite figure.

    Args:
        title: what the chart shows.
        rows: name of each, and its intervals from above to below.
        text: writes a value.
        rule_at: a value to point out by a line, e.g. 0 for differences.
    """
    drawn = [(name, [each for each in intervals if _is_finite(each)]) for name, intervals in rows]
    drawn = [(name, intervals) for name, intervals in drawn if intervals]
    if not drawn:
        return None
    ends = [end for _, intervals in drawn for each in intervals for end in (each.low, each.high, each.value)]
    ends += [] if rule_at is None else [rule_at]
    axis = ticks(min(ends), max(ends))

    def place(value: float) -> float:
        share = (value - axis[0]) / (axis[-1] - axis[0])
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    marks: list[Html] = []
    top = _TOP
    for name, intervals in drawn:
        height = _ROW_MARGIN + _MARK_HEIGHT * len(intervals)
        marks.append(element("text", name, class_="tick", x=_LEFT - 8, y=top + height / 2 + 4, text_anchor="end"))
        for number, each in enumerate(intervals):
            marks.append(_mark(name, each, place, top + (_ROW_MARGIN + _MARK_HEIGHT) / 2 + number * _MARK_HEIGHT, text))
        top += height
    svg = element(
        "svg",
        *_axis(axis, place, top, text, rule_at),
        *marks,
        viewBox=f"0 0 {_WIDTH:g} {top + _BOTTOM:g}",
        role="img",
        aria_label=f"{title}: {'; '.join(_in_words(name, each, text) for name, all_ in drawn for each in all_)}",
    )
    legend = {each.name: each.colour for _, intervals in drawn for each in intervals}
    keys = [element("span", name, class_=f"key c{colour}") for name, colour in legend.items()]
    caption = element("figcaption", element("b", title), *(keys if len(keys) > 1 else []))
    return element("figure", caption, svg, class_="chart")


def _is_finite(interval: Interval) -> bool:
    return all(math.isfinite(value) for value in (interval.value, interval.low, interval.high))


def _mark(
    name: str, interval: Interval, place: Callable[[float], float], y: float, text: Callable[[float], str]
) -> Html:
    return element(
        "g",
        element("title", _in_words(name, interval, text)),
        element("line", class_="whisker", x1=place(interval.low), x2=place(interval.high), y1=y, y2=y),
        element("circle", class_="dot", cx=place(interval.value), cy=y, r=4),
        class_=f"c{interval.colour}",
    )


def _axis(
    axis: Sequence[float],
    place: Callable[[float], float],
    bottom: float,
    text: Callable[[float], str],
    rule_at: float | None,
) -> list[Html]:
    lines = [element("line", class_="grid", x1=place(each), x2=place(each), y1=_TOP, y2=bottom) for each in axis]
    labels = [
        element("text", text(each), class_="tick", x=place(each), y=bottom + 16, text_anchor="middle") for each in axis
    ]
    if rule_at is not None:
        lines.append(element("line", class_="mark", x1=place(rule_at), x2=place(rule_at), y1=_TOP, y2=bottom))
    return [*lines, element("line", class_="axis", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=bottom, y2=bottom), *labels]


def _in_words(name: str, interval: Interval, text: Callable[[float], str]) -> str:
    ends = f"{text(interval.low)} to {text(interval.high)}"
    return f"{name}, {interval.name}: {text(interval.value)}, 95 % {ends}"
