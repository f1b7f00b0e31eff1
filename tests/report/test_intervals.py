import html
import math
import re

import pytest

from genai.report.intervals import Interval, interval_chart


def chart(rows: list[tuple[str, list[Interval]]], **options: float) -> str:
    return interval_chart("Recall", rows, text=lambda value: f"{value:.2f}", **options) or ""


def between(name: str, value: float, low: float, high: float, colour: int = 1) -> Interval:
    return Interval(name=name, value=value, low=low, high=high, colour=colour)


def numbers(markup: str, tag: str, attribute: str, class_: str) -> list[float]:
    found = re.findall(rf'<{tag} class="{class_}"[^>]*?\b{attribute}="([-\d.]+)"', markup)
    return [float(number) for number in found]


def test_a_dot_lies_on_its_line_and_the_axis_is_linear() -> None:
    markup = chart([("r@1", [between("before", 0.4, 0.2, 0.6)]), ("r@10", [between("before", 0.8, 0.6, 1.0)])])
    starts, ends = numbers(markup, "line", "x1", "whisker"), numbers(markup, "line", "x2", "whisker")
    dots = numbers(markup, "circle", "cx", "dot")
    assert [round(dot - (start + end) / 2, 1) for start, dot, end in zip(starts, dots, ends, strict=True)] == [0, 0]
    assert starts[1] == ends[0] and starts[0] < ends[0] < ends[1]


def test_what_it_says_in_words() -> None:
    rows = [("r@1", [between("before", 0.4, 0.3, 0.5), between("after", 0.5, 0.4, 0.6, 2)])]
    markup = html.unescape(chart(rows))
    assert 'aria-label="Recall: r@1, before: 0.40, 95 % 0.30 to 0.50; r@1, after: 0.50, 95 % 0.40 to 0.60"' in markup
    assert '<span class="key c1">before</span><span class="key c2">after</span>' in markup
    assert "<title>r@1, after: 0.50, 95 % 0.40 to 0.60</title>" in markup


def test_a_row_has_a_line_for_each_figure() -> None:
    one = chart([("a", [between("x", 1, 0, 2)])])
    two = chart([("a", [between("x", 1, 0, 2), between("y", 1, 0, 2)])])
    heights = [float(re.search(r'viewBox="0 0 480 ([\d.]+)"', each)[1]) for each in (one, two)]  # type: ignore[index]
    assert heights[1] > heights[0]
    assert len(set(numbers(two, "line", "y1", "whisker"))) == 2
    assert 'class="key' not in one


@pytest.mark.parametrize("value", [0.1, -0.1])
def test_the_rule_is_always_within_the_drawing(value: float) -> None:
    markup = chart([("r@1", [between("difference", value, value - 0.02, value + 0.02)])], rule_at=0)
    (rule,) = numbers(markup, "line", "x1", "mark")
    (dot,) = numbers(markup, "circle", "cx", "dot")
    assert 92 <= rule <= 464 and (dot > rule) == (value > 0)


def test_what_is_not_finite_is_left_out() -> None:
    rows = [("r@1", [between("before", math.nan, 0, 1)]), ("r@2", [between("before", 0.5, 0.4, 0.6)])]
    markup = chart(rows)
    assert "r@1" not in markup and "r@2" in markup
    assert chart(rows[:1]) == ""
    assert chart([]) == ""


def test_names_are_escaped() -> None:
    assert "<b>" not in chart([("<b>", [between("<b>", 1, 0, 2), between("y", 1, 0, 2)])]).replace("<b>Recall</b>", "")
