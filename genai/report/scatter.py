"""A map of points as inline SVG: each says what it is when pointed at; page.js shows that at once, and larger."""

from __future__ import annotations

from collections.abc import Sequence

from genai.report.contents import MapPoint
from genai.report.html import Html, element
from genai.report.numbers import count

_WIDTH, _HEIGHT, _MARGIN = 960.0, 520.0, 12.0
_COLOURS = 4


def scatter(title: str, points: Sequence[MapPoint]) -> Html | None:
    """A figure with a dot for every point; None when there are none.

    Args:
        title: what the map shows.
        points: with finite places; groups are coloured in the order in which they first appear, and those beyond the
            fourth share its colour.
    """
    if not points:
        return None
    groups = list(dict.fromkeys(point.group for point in points))
    colours = {group: min(number, _COLOURS) for number, group in enumerate(groups, start=1)}
    dots = [
        element(
            "circle",
            element("title", f"{point.title}: {point.text}"),
            class_=f"dot c{colours[point.group]}",
            cx=x,
            cy=y,
            r=3.4,
        )
        for point, (x, y) in zip(points, _places(points), strict=True)
    ]
    svg = element(
        "svg",
        *dots,
        viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}",
        role="img",
        aria_label=f"{title}: {count(len(points))} points",
    )
    shown = [group for group in groups if group] if len(groups) > 1 else []
    keys = [element("span", group, class_=f"key c{colours[group]}") for group in shown]
    caption = element("figcaption", element("b", title), *keys)
    return element("figure", caption, svg, class_="chart map")


def _places(points: Sequence[MapPoint]) -> list[tuple[float, float]]:
    """Where the points lie in the drawing, which they fill in both directions."""
    xs, ys = [point.x for point in points], [point.y for point in points]
    return [
        (_scaled(point.x, min(xs), max(xs), _WIDTH), _scaled(-point.y, -max(ys), -min(ys), _HEIGHT)) for point in points
    ]


def _scaled(value: float, low: float, high: float, size: float) -> float:
    share = (value - low) / (high - low) if high > low else 0.5
    return round(_MARGIN + share * (size - 2 * _MARGIN), 1)
