import json
import math
import re
import xml.etree.ElementTree as ElementTree

import pytest

from genai.report.plots import Line, bar, histogram, line_chart, moving_mean, thin_out

LINE = Line(name="training", points=[(1, 4.0), (2, 3.0), (3, 2.5), (4, 2.0)])
EVALUATION = Line(name="evaluation", points=[(0, 4.2), (4, 2.4)], colour=2, style="marked")


def draw(*lines: Line, **settings: bool) -> ElementTree.Element:
    markup = line_chart("Loss", lines, x_label="step", y_label="nats", **settings)
    assert markup is not None
    return ElementTree.fromstring(markup)


def texts(figure: ElementTree.Element) -> list[str]:
    return [node.text or "" for node in figure.iter("text")]


def places(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](\S+) ([\d.]+)", path)]


def test_a_chart_has_its_axes_named_and_its_points_in_place() -> None:
    figure = draw(LINE, EVALUATION)
    assert {"nats", "step", "0", "1", "4", "2", "2.5"} <= set(texts(figure))
    paths = {node.get("class"): node.get("d") or "" for node in figure.iter("path")}
    training = places(paths["curve line c1"])
    assert len(training) == 4
    xs, ys = zip(*training, strict=True)
    assert list(xs) == sorted(xs) and list(ys) == sorted(ys)  # the loss falls: y grows downwards
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.11)
    assert (ys[1] - ys[0]) / (ys[2] - ys[1]) == pytest.approx(2, abs=0.02)
    assert all(0 <= x <= 480 and 0 <= y <= 250 for x, y in training)


def test_marked_points_say_their_value_without_a_script() -> None:
    figure = draw(LINE, EVALUATION)
    assert [node.findtext("title") for node in figure.iter("circle")] == ["evaluation, 0: 4.2", "evaluation, 4: 2.4"]


def test_the_cursor_reads_what_was_drawn_but_not_the_background() -> None:
    figure = draw(Line(name="each step", points=LINE.points, style="faint"), LINE, EVALUATION)
    lines = json.loads(figure.get("data-lines") or "")
    assert [line["name"] for line in lines] == ["training", "evaluation"]
    assert [point[2:] for point in lines[0]["points"]] == [["1", "4"], ["2", "3"], ["3", "2.5"], ["4", "2"]]
    dots = [(float(node.get("cx") or 0), float(node.get("cy") or 0)) for node in figure.iter("circle")]
    assert [tuple(point[:2]) for point in lines[1]["points"]] == dots


def test_a_reader_who_cannot_see_is_told_where_lines_begin_and_end() -> None:
    (svg,) = draw(LINE, EVALUATION).iter("svg")
    assert svg.get("aria-label") == "Loss: training from 4 to 2; evaluation from 4.2 to 2.4"


def test_one_line_needs_no_legend() -> None:
    assert not list(draw(LINE).iter("span"))
    assert [node.text for node in draw(LINE, EVALUATION).iter("span")] == ["training", "evaluation"]


def test_values_that_are_not_finite_leave_a_gap() -> None:
    line = Line(name="x", points=[(1, 1.0), (2, 2.0), (3, math.nan), (4, math.inf), (5, 1.0), (6, 2.0)])
    (path,) = [node.get("d") or "" for node in draw(line).iter("path")]
    assert path.count("M") == 2 and len(places(path)) == 4


@pytest.mark.parametrize("points", [[], [(1, math.nan)]])
def test_nothing_to_show_is_no_chart(points: list[tuple[float, float]]) -> None:
    assert line_chart("Loss", [Line(name="x", points=points)], x_label="step", y_label="nats") is None


@pytest.mark.parametrize("points", [[(5, 2.0)], [(0, 0.0)], [(1, 3.0), (2, 3.0)], [(1, 1e-30), (2, 1e30)]])
def test_a_single_point_or_a_flat_line_can_be_drawn(points: list[tuple[float, float]]) -> None:
    figure = draw(Line(name="x", points=points))
    (path,) = [node.get("d") or "" for node in figure.iter("path")]
    assert len(places(path)) == len(points)


def test_an_axis_from_zero() -> None:
    assert "0" in texts(draw(Line(name="x", points=[(3, 290.0), (4, 300.0)]), from_zero=True))
    assert "0" not in texts(draw(Line(name="x", points=[(3, 290.0), (4, 300.0)])))


def test_hostile_names_stay_text(hostile: str) -> None:
    markup = line_chart(hostile, [Line(name=hostile, points=[(1, 1)])] * 2, x_label=hostile, y_label=hostile)
    assert markup is not None and "<script" not in markup
    ElementTree.fromstring(markup)


def test_thinning_keeps_spikes_and_the_order() -> None:
    points = [(float(x), 1.0) for x in range(10_000)]
    points[7777] = (7777.0, 9.0)
    thin = thin_out(points)
    assert len(thin) <= 400
    assert (7777.0, 9.0) in thin
    assert thin == sorted(thin)
    assert thin_out(points[:400]) == points[:400]


def test_the_moving_mean_passes_over_what_is_not_finite() -> None:
    points = [(1, 2.0), (2, 4.0), (3, math.nan), (4, 6.0)]
    assert moving_mean(points, 2) == [(1, 2.0), (2, 3.0), (3, 3.0), (4, 5.0)]
    (first,) = moving_mean([(1, math.nan)], 2)
    assert math.isnan(first[1])


def test_a_histogram_has_a_bar_a_bin_with_its_count() -> None:
    markup = histogram(
        "Lengths", [0, 64, 128, 192], [3, 0, 9], x_label="tokens", y_label="rows", mark=(256, "max_seq_len 256")
    )
    assert markup is not None
    figure = ElementTree.fromstring(markup)
    bars = list(figure.iter("rect"))
    assert [node.findtext("title") for node in bars] == ["0 to 64 tokens: 3 rows", "128 to 192 tokens: 9 rows"]
    low, high = (float(node.get("height") or 0) for node in bars)
    assert high == pytest.approx(3 * low, abs=0.2)
    assert "max_seq_len 256" in texts(figure)
    assert histogram("Lengths", [0, 1], [0], x_label="tokens", y_label="rows") is None


def test_a_bar_is_as_long_as_its_share() -> None:
    (rect,) = ElementTree.fromstring(bar(0.25, 2)).iter("rect")
    assert (rect.get("width"), rect.get("class")) == ("25.0", "bar c2")
