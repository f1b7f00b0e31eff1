from xml.etree import ElementTree

import pytest

from genai.report import MapPoint
from genai.report.scatter import scatter


def draw(points: list[MapPoint]) -> ElementTree.Element:
    figure = scatter("Map", points)
    assert figure is not None
    return ElementTree.fromstring(figure)


def point(x: float, y: float, group: str = "") -> MapPoint:
    return MapPoint(x=x, y=y, title=f"at {x}", text="words", group=group)


def circles(figure: ElementTree.Element) -> list[tuple[float, float, str]]:
    found = figure.iter("circle")
    return [(float(each.attrib["cx"]), float(each.attrib["cy"]), each.attrib["class"]) for each in found]


def test_points_fill_the_drawing_and_up_is_up() -> None:
    left_low, right_high, middle = circles(draw([point(-1, -5), point(1, 5), point(0, 0)]))
    assert left_low[:2] == (12, 508)
    assert right_high[:2] == (948, 12)
    assert middle[:2] == (480, 260)


def test_each_point_says_what_it_is() -> None:
    assert [title.text for title in draw([point(3, 1)]).iter("title")] == ["at 3: words"]


def test_groups_have_colours_and_a_legend() -> None:
    figure = draw([point(0, 0, name) for name in ("a", "b", "a", "c", "d", "e")])
    assert [name for *_, name in circles(figure)] == ["dot c1", "dot c2", "dot c1", "dot c3", "dot c4", "dot c4"]
    assert [span.text for span in figure.iter("span")] == ["a", "b", "c", "d", "e"]


def test_one_group_needs_no_legend() -> None:
    assert list(draw([point(0, 0, "a"), point(1, 1, "a")]).iter("span")) == []


@pytest.mark.parametrize("points", [[point(2, 2)], [point(1, 3), point(1, 3)], [point(1, 0), point(2, 0)]])
def test_points_on_a_line_or_a_spot_can_be_drawn(points: list[MapPoint]) -> None:
    assert all(0 <= x <= 960 and 0 <= y <= 520 for x, y, _ in circles(draw(points)))


def test_no_points_are_no_map() -> None:
    assert scatter("Map", []) is None
