"""The page as a browser shows it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_pages import CONTRAST, Opened, sync_api

from genai.report import (
    IndexReport,
    RetrievalReport,
    TrainingReport,
    render_index_report,
    render_retrieval_report,
    render_training_report,
)

pytestmark = [pytest.mark.integration, pytest.mark.needs("chromium")]


@pytest.fixture
def path(tmp_path: Path, report: TrainingReport) -> Path:
    path = tmp_path / "report.html"
    path.write_text(render_training_report(report), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser: sync_api.Browser, path: Path) -> Iterator[Opened]:
    opened = Opened(browser, path, viewport={"width": 1200, "height": 900}, color_scheme="light")
    yield opened
    opened.context.close()


def test_it_loads_nothing_says_nothing_and_runs_nothing_of_the_data(opened: Opened, path: Path, hostile: str) -> None:
    opened.page.wait_for_timeout(100)
    assert opened.requests == [path.as_uri()]
    assert opened.said == []
    assert hostile in opened.page.locator("#answers").inner_text()
    assert hostile in opened.page.locator("#labels").inner_text()
    assert opened.page.locator("script").count() == 1


def test_markup_that_got_in_nevertheless_could_do_nothing(opened: Opened) -> None:
    with socket.create_server(("127.0.0.1", 0)) as outside:
        url = f"http://127.0.0.1:{outside.getsockname()[1]}/"
        image = f"<img src={url} onerror=alert(1)><link rel=stylesheet href={url}>"
        opened.page.evaluate("markup => document.body.insertAdjacentHTML('beforeend', markup)", image)
        script = "document.body.append(Object.assign(document.createElement('script'), {text: 'alert(2)'}))"
        opened.page.evaluate(script)
        assert opened.page.evaluate("url => fetch(url).then(() => 'sent', () => 'refused')", url) == "refused"
        opened.page.wait_for_timeout(200)
        outside.settimeout(0)
        with pytest.raises(BlockingIOError):
            outside.accept()
    assert sum("Content Security Policy" in line for line in opened.said) >= 4
    assert not [line for line in opened.said if line.startswith("dialog")]


def test_curves_are_drawn_inside_their_frames(opened: Opened) -> None:
    curves = opened.page.locator("#curves path.curve")
    assert curves.count() >= 6
    for curve in curves.all():
        assert curve.evaluate("node => node.getTotalLength()") > 100
        box, frame = curve.bounding_box(), curve.locator("xpath=ancestor::figure").bounding_box()
        assert box is not None and frame is not None
        assert frame["x"] <= box["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"]
        assert frame["y"] <= box["y"] and box["y"] + box["height"] <= frame["y"] + frame["height"]
    assert opened.page.locator("#curves circle.dot title").first.text_content() == "evaluation, 0: 3.9"


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_pointing_at_a_curve_reads_its_value(opened: Opened, share: float) -> None:
    figure = opened.page.locator("#curves figure").first
    tip = figure.locator(".tip")
    assert not tip.is_visible()
    surface = figure.locator("svg rect")
    box = surface.bounding_box()
    assert box is not None
    surface.hover(position={"x": box["width"] * share, "y": box["height"] / 2})
    step = round(60 * share)
    assert tip.inner_text().startswith(f"step {step}\n")
    assert ("evaluation" in tip.inner_text()) == (step in (0, 20, 40, 60))
    tip_box, frame = tip.bounding_box(), figure.bounding_box()
    assert tip_box is not None and frame is not None
    assert frame["x"] <= tip_box["x"] and tip_box["x"] + tip_box["width"] <= frame["x"] + frame["width"]
    opened.page.mouse.move(0, 0)
    assert not tip.is_visible()


def test_sections_can_be_reached_and_unfolded(opened: Opened) -> None:
    opened.page.get_by_role("link", name="Origin").click()
    assert opened.page.url.endswith("#origin")
    config = opened.page.locator("details", has_text="Config, as written")
    assert not config.locator("pre").is_visible()
    config.locator("summary").click()
    assert "key: env:TOKEN" in config.locator("pre").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_are_both_readable(browser: sync_api.Browser, path: Path, scheme: str) -> None:
    opened = Opened(browser, path, color_scheme=scheme)
    shades = opened.page.evaluate(
        "getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert (sum(shades) / 3 < 60) == (scheme == "dark")
    selectors = ["h1", ".about", ".note", ".pill.good", ".pill.neutral", "mark", ".warnings li", "nav a", "svg text"]
    for selector, ratio in opened.page.evaluate(CONTRAST, [*selectors, ".base p", ".key", "dt", ".tokens", "thead th"]):
        assert ratio >= 4.5, selector
    opened.context.close()


def test_a_phone_need_not_scroll_sideways(browser: sync_api.Browser, path: Path) -> None:
    opened = Opened(browser, path, viewport={"width": 360, "height": 700}, has_touch=True, is_mobile=True)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert opened.page.locator("table.losses tbody th").first.bounding_box()["height"] < 60
    surface = opened.page.locator("#curves figure").first.locator("svg rect")
    surface.scroll_into_view_if_needed()
    surface.tap()
    assert opened.page.locator("#curves .tip").first.is_visible()
    opened.context.close()


@pytest.fixture
def index_page(browser: sync_api.Browser, tmp_path: Path, index_report: IndexReport) -> Iterator[Opened]:
    path = tmp_path / "index.html"
    path.write_text(render_index_report(index_report), encoding="utf-8")
    opened = Opened(browser, path, viewport={"width": 1200, "height": 900}, color_scheme="light")
    yield opened
    opened.context.close()


def test_pointing_at_a_dot_of_the_map_reads_its_text(index_page: Opened, hostile: str) -> None:
    figure = index_page.page.locator("#map figure")
    tip = figure.locator(".tip")
    assert not tip.is_visible()
    dot = figure.locator("circle").nth(7)
    dot.scroll_into_view_if_needed()
    box = dot.bounding_box()
    assert box is not None
    index_page.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert tip.inner_text() == f"faq.md:7: {hostile}"
    tip_box, frame = tip.bounding_box(), figure.bounding_box()
    assert tip_box is not None and frame is not None
    assert frame["x"] <= tip_box["x"] and tip_box["x"] + tip_box["width"] <= frame["x"] + frame["width"]
    index_page.page.mouse.move(0, 0)
    assert not tip.is_visible()
    assert index_page.said == []


def test_the_map_fits_on_a_phone(browser: sync_api.Browser, tmp_path: Path, index_report: IndexReport) -> None:
    path = tmp_path / "index.html"
    path.write_text(render_index_report(index_report), encoding="utf-8")
    opened = Opened(browser, path, viewport={"width": 360, "height": 700}, has_touch=True, is_mobile=True)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360
    drawing = opened.page.locator("#map svg")
    drawing.scroll_into_view_if_needed()
    drawing.tap()
    assert opened.page.locator("#map .tip").is_visible()
    opened.context.close()


@pytest.fixture
def retrieval_path(tmp_path: Path, retrieval_report: RetrievalReport) -> Path:
    path = tmp_path / "retrieval.html"
    path.write_text(render_retrieval_report(retrieval_report), encoding="utf-8")
    return path


def test_a_report_of_retrieval_runs_nothing_of_the_data(
    browser: sync_api.Browser, retrieval_path: Path, hostile: str
) -> None:
    opened = Opened(browser, retrieval_path, viewport={"width": 1200, "height": 900}, color_scheme="light")
    opened.page.wait_for_timeout(100)
    assert opened.requests == [retrieval_path.as_uri()]
    assert opened.said == []
    for section in ("promotion", "queries", "search", "data", "labels"):
        assert hostile in opened.page.locator(f"#{section}").inner_text(), section
    opened.context.close()


def test_intervals_are_drawn_inside_their_frames(browser: sync_api.Browser, retrieval_path: Path) -> None:
    opened = Opened(browser, retrieval_path, viewport={"width": 1200, "height": 900}, color_scheme="light")
    whiskers = opened.page.locator("#result figure line.whisker")
    assert whiskers.count() == 9, "two and one for each of three measures"
    for whisker in whiskers.all():
        box, frame = whisker.bounding_box(), whisker.locator("xpath=ancestor::figure").bounding_box()
        assert box is not None and frame is not None
        assert box["width"] > 5
        assert frame["x"] <= box["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"]
    for name in opened.page.locator("#result figure svg text").all():
        box, frame = name.bounding_box(), name.locator("xpath=ancestor::figure").bounding_box()
        assert box is not None and frame is not None
        assert frame["x"] <= box["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"]
    opened.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_of_retrieval_is_readable_and_fits_on_a_phone(
    browser: sync_api.Browser, retrieval_path: Path, scheme: str
) -> None:
    settings = {"viewport": {"width": 360, "height": 700}, "has_touch": True, "is_mobile": True}
    opened = Opened(browser, retrieval_path, color_scheme=scheme, **settings)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360
    selectors = [".pill.good", ".pill.bad", ".pill.neutral", ".query", "svg text", ".key", "thead th", ".note", "small"]
    for selector, ratio in opened.page.evaluate(CONTRAST, selectors):
        assert ratio >= 4.5, selector
    opened.context.close()
