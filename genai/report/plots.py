"""Charts as inline SVG: they need no script, but page.js adds a cursor that reads values off the lines.

Colours come from the page's style (classes c1, c2, ...), so that charts follow light and dark.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from genai.report.html import Html, element, join
from genai.report.numbers import compact, count, ticks

Point = tuple[float, float]

_WIDTH, _HEIGHT = 480.0, 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 54.0, 12.0, 28.0, 42.0
_MAX_POINTS = 400


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve of a chart; values that are not finite leave a gap."""

    name: str
    """What the legend says."""
    points: Sequence[Point]
    """(x, y), by rising x."""
    colour: int = 1
    """1 to 4."""
    style: Literal["line", "faint", "marked"] = "line"
    """faint: in the background and left out of the legend and the cursor; marked: with a dot at each point."""


@dataclass(frozen=True)
class _Frame:
    """Maps values to places in the drawing."""

    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    x_low: float
    x_high: float

    def x(self, value: float) -> float:
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        share = (value - self.y_ticks[0]) / (self.y_ticks[-1] - self.y_ticks[0])
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    from_zero: bool = False,
    text: Callable[[float], str] = compact,
) -> Html | None:
    """A figure with curves over a common x; None when there is no finite point.

    Args:
        title: what the chart shows.
        lines: the curves; later ones are drawn above earlier ones.
        x_label: name of the x axis.
        y_label: name and unit of the y axis.
        from_zero: the y axis starts at 0.
        text: writes a y value.
    """
    drawn = [line for line in lines if any(math.isfinite(y) for _, y in line.points)]
    if not drawn:
        return None
    finite = [(x, y) for line in drawn for x, y in line.points if math.isfinite(y)]
    frame = _frame(finite, from_zero=from_zero)
    summary = "; ".join(_in_words(line, text) for line in drawn if line.style != "faint")
    svg = element(
        "svg",
        _axes(frame, x_label, y_label, text),
        *(_curve(line, frame, text) for line in drawn),
        viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}",
        role="img",
        aria_label=f"{title}: {summary}",
    )
    legend = [line for line in drawn if line.style != "faint"]
    swatches = [element("span", line.name, class_=f"key c{line.colour}") for line in legend] if len(legend) > 1 else []
    caption = element("figcaption", element("b", title), *swatches)
    cursor = json.dumps([_readings(line, frame, text) for line in legend], separators=(",", ":"))
    area = json.dumps([_LEFT, _TOP, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM])
    return element("figure", caption, svg, class_="chart", data_x=x_label, data_area=area, data_lines=cursor)


def histogram(
    title: str,
    edges: Sequence[float],
    counts: Sequence[int],
    *,
    x_label: str,
    y_label: str,
    mark: tuple[float, str] | None = None,
) -> Html | None:
    """A figure with one bar a bin; None when all bins are empty.

    Args:
        title: what the chart shows.
        edges: limits of the bins, one more than there are bins.
        counts: how many values lie in each bin.
        x_label: name and unit of the x axis.
        y_label: name of the y axis.
        mark: a value on the x axis to point out, and what to call it.
    """
    if not any(counts):
        return None
    right = max(edges[-1], mark[0] if mark else edges[-1])
    frame = _Frame(_inside(ticks(edges[0], right), edges[0], right), ticks(0, max(counts), about=4), edges[0], right)
    base = frame.y(0)
    bars = [
        element(
            "rect",
            element("title", f"{count(low)} to {count(high)} {x_label}: {count(number)} {y_label}"),
            class_="bar c1",
            x=frame.x(low) + 0.5,
            y=frame.y(number),
            width=round(max(1.0, frame.x(high) - frame.x(low) - 1), 1),
            height=round(base - frame.y(number), 1),
            rx=1.5,
        )
        for low, high, number in zip(edges[:-1], edges[1:], counts, strict=True)
        if number
    ]
    svg = element(
        "svg",
        _axes(frame, x_label, y_label, count),
        *bars,
        _mark(frame, *mark) if mark else None,
        viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}",
        role="img",
        aria_label=f"{title}: {count(sum(counts))} {y_label}, {count(edges[0])} to {count(edges[-1])} {x_label}",
    )
    return element("figure", element("figcaption", element("b", title)), svg, class_="chart")


def bar(share: float, colour: int) -> Html:
    """A horizontal bar as long as `share` (0 to 1) of its place."""
    rect = element("rect", class_=f"bar c{colour}", width=round(100 * share, 1), height=8, rx=1)
    return element("svg", rect, class_="meter", viewBox="0 0 100 8", preserveAspectRatio="none", aria_hidden="true")


def thin_out(points: Sequence[Point], limit: int = _MAX_POINTS) -> list[Point]:
    """At most about `limit` of `points`: of each stretch the lowest and the highest, so that no spike is lost."""
    if len(points) <= limit:
        return list(points)
    width = 2 * len(points) / limit
    stretches = (points[int(i * width) : int((i + 1) * width)] for i in range(limit // 2))
    return [point for stretch in stretches for point in _extremes(stretch)]


def moving_mean(points: Sequence[Point], window: int) -> list[Point]:
    """Each y as the mean of the last `window` finite ones."""
    means: list[Point] = []
    recent: list[float] = []
    for x, y in points:
        if math.isfinite(y):
            recent = [*recent, y][-window:]
        means.append((x, sum(recent) / len(recent) if recent else math.nan))
    return means


def _extremes(stretch: Sequence[Point]) -> Iterator[Point]:
    finite = [point for point in stretch if math.isfinite(point[1])]
    if not finite:
        yield from stretch[:1]
        return
    low, high = min(finite, key=lambda point: point[1]), max(finite, key=lambda point: point[1])
    yield from sorted({low, high})


def _frame(points: Sequence[Point], *, from_zero: bool) -> _Frame:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x_low, x_high = min(xs), max(xs)
    if x_low == x_high:
        x_low, x_high = x_low - 0.5, x_high + 0.5
    x_ticks = [tick for tick in _inside(ticks(x_low, x_high, about=6), x_low, x_high) if tick == int(tick)]
    return _Frame(x_ticks, ticks(min(0, *ys) if from_zero else min(ys), max(ys)), x_low, x_high)


def _inside(values: Sequence[float], low: float, high: float) -> list[float]:
    return [value for value in values if low <= value <= high]


def _axes(frame: _Frame, x_label: str, y_label: str, text: Callable[[float], str]) -> Html:
    left, right, bottom = _LEFT, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    marks: list[Html] = []
    for tick in frame.y_ticks:
        y = frame.y(tick)
        marks.append(element("line", class_="grid", x1=left, x2=right, y1=y, y2=y))
        marks.append(element("text", text(tick), class_="tick", x=left - 6, y=y + 4, text_anchor="end"))
    for tick in frame.x_ticks:
        marks.append(
            element("text", compact(tick), class_="tick", x=frame.x(tick), y=bottom + 16, text_anchor="middle")
        )
    marks.append(element("line", class_="axis", x1=left, x2=right, y1=bottom, y2=bottom))
    marks.append(element("text", y_label, class_="label", x=4, y=14))
    marks.append(element("text", x_label, class_="label", x=right, y=_HEIGHT - 6, text_anchor="end"))
    return join(marks)


def _curve(line: Line, frame: _Frame, text: Callable[[float], str]) -> Html:
    points = thin_out(line.points)
    path = element("path", d=_path(points, frame), class_=f"curve {line.style} c{line.colour}")
    if line.style != "marked":
        return path
    dots = [
        element(
            "circle",
            element("title", f"{line.name}, {compact(x)}: {text(y)}"),
            class_=f"dot c{line.colour}",
            cx=frame.x(x),
            cy=frame.y(y),
            r=3.2,
        )
        for x, y in points
        if math.isfinite(y)
    ]
    return join([path, *dots])


def _path(points: Sequence[Point], frame: _Frame) -> str:
    steps, pen_up = [], True
    for x, y in points:
        if math.isfinite(y):
            steps.append(f"{'M' if pen_up else 'L'}{frame.x(x):g} {frame.y(y):g}")
        pen_up = not math.isfinite(y)
    return "".join(steps)


def _readings(line: Line, frame: _Frame, text: Callable[[float], str]) -> dict[str, object]:
    """What the cursor reads off a line: [place x, place y, x, y as text] each."""
    rows = [[frame.x(x), frame.y(y), compact(x, 6), text(y)] for x, y in thin_out(line.points) if math.isfinite(y)]
    return {"name": line.name, "colour": line.colour, "points": rows}


def _in_words(line: Line, text: Callable[[float], str]) -> str:
    values = [y for _, y in line.points if math.isfinite(y)]
    return f"{line.name} from {text(values[0])} to {text(values[-1])}"


def _mark(frame: _Frame, value: float, name: str) -> Html:
    x = frame.x(value)
    near_right = x > _WIDTH / 2
    return join(
        [
            element("line", class_="mark", x1=x, x2=x, y1=_TOP, y2=_HEIGHT - _BOTTOM),
            element(
                "text",
                name,
                class_="tick",
                x=x - 5 if near_right else x + 5,
                y=_TOP + 10,
                text_anchor="end" if near_right else "start",
            ),
        ]
    )
