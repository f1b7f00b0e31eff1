"""Examples of an evaluation as a browser shows them: filtered, ordered, searched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browser_pages import CONTRAST, Opened, sync_api

from genai.report.comparison import render_comparison_report
from genai.report.evaluation import render_evaluation_report
from genai.report.evaluation_contents import ComparisonReport, EvaluationReport

pytestmark = [pytest.mark.integration, pytest.mark.needs("chromium")]


@pytest.fixture
def comparison_path(tmp_path: Path, comparison_report: ComparisonReport) -> Path:
    path = tmp_path / "comparison.html"
    path.write_text(render_comparison_report(comparison_report), encoding="utf-8")
    return path


@pytest.fixture
def evaluation_path(tmp_path: Path, evaluation_report: EvaluationReport) -> Path:
    path = tmp_path / "evaluation.html"
    path.write_text(render_evaluation_report(evaluation_report), encoding="utf-8")
    return path


@pytest.fixture
def compared(browser: sync_api.Browser, comparison_path: Path) -> Iterator[Opened]:
    opened = Opened(browser, comparison_path, viewport={"width": 1200, "height": 900}, color_scheme="light")
    yield opened
    opened.context.close()


def shown(opened: Opened) -> list[str]:
    """Ids of the examples that can be seen, from above to below."""
    titles = opened.page.locator(".example:not([hidden]) .title").all_text_contents()
    return [title.split()[1] for title in titles]


def choose(opened: Opened, name: str, value: str) -> None:
    opened.page.locator(f".controls [name={name}]").select_option(value)


def found(opened: Opened) -> str:
    return str(opened.page.locator(".controls output").inner_text())


def test_all_examples_are_shown_until_somebody_chooses(compared: Opened, comparison_path: Path, hostile: str) -> None:
    assert shown(compared) == [f"q{number}" for number in range(8)]
    assert found(compared) == "8 of 8 examples"
    assert compared.page.locator(".example", has_text=hostile).count() >= 1
    compared.page.wait_for_timeout(100)
    assert compared.requests == [comparison_path.as_uri()]
    assert compared.said == []


@pytest.mark.parametrize(
    ("choices", "ids"),
    [
        ({"verdict": "won"}, ["q1", "q5", "q6"]),
        ({"verdict": "lost"}, ["q3"]),
        ({"verdict": "tied"}, ["q0", "q4", "q7"]),
        ({"verdict": "failed"}, ["q2"]),
        ({"verdict": "won", "dataset": "sums"}, ["q6"]),
        ({"slice": "topic = floors"}, ["q0", "q2", "q4", "q6"]),
        ({"target": "other", "verdict": "unscored"}, ["q4"]),
        ({"target": "other", "verdict": "tied"}, ["q0", "q1", "q2", "q3", "q5", "q6", "q7"]),
        ({"metric": "nll", "verdict": "won"}, []),
        ({"order": "loss"}, ["q3", "q0", "q4", "q7", "q5", "q1", "q6", "q2"]),
        ({"order": "gain"}, ["q6", "q1", "q5", "q0", "q4", "q7", "q3", "q2"]),
        ({"order": "worst"}, ["q3", "q5", "q0", "q4", "q7", "q1", "q6", "q2"]),
        ({"order": "best", "verdict": "won"}, ["q6", "q1", "q5"]),
    ],
    ids=str,
)
def test_examples_are_filtered_and_ordered(compared: Opened, choices: dict[str, str], ids: list[str]) -> None:
    for name, value in choices.items():
        choose(compared, name, value)
    assert shown(compared) == ids
    assert found(compared) == f"{len(ids)} of 8 examples"
    assert not any(each.is_visible() for each in compared.page.locator(".example[hidden]").all())
    assert compared.said == []


def test_the_order_of_the_data_comes_back(compared: Opened) -> None:
    choose(compared, "order", "gain")
    choose(compared, "order", "")
    assert shown(compared) == [f"q{number}" for number in range(8)]


def test_examples_are_searched_by_their_words(compared: Opened) -> None:
    search = compared.page.locator(".controls [name=text]")
    search.fill("TUNED says 4")
    assert shown(compared) == ["q4"]
    search.fill("synthetic")
    assert shown(compared) == ["q5"]
    search.fill("nobody says this")
    assert shown(compared) == []
    search.fill("")
    assert len(shown(compared)) == 8


def test_answers_stand_side_by_side(compared: Opened) -> None:
    card = compared.page.locator(".example").nth(1)
    boxes = [column.bounding_box() for column in card.locator(".columns > div").all()]
    assert len(boxes) == 4, "three answers and what is right"
    assert len({round(box["y"]) for box in boxes[:3] if box is not None}) == 1
    assert card.locator(".tuned .pill.good").first.inner_text() == "token_f1 0.9 won"
    assert "baseline" in card.locator(".base h4").inner_text().lower()


def test_without_a_script_all_examples_show(browser: sync_api.Browser, comparison_path: Path) -> None:
    opened = Opened(browser, comparison_path, java_script_enabled=False)
    assert len(shown(opened)) == 8
    assert not opened.page.locator(".controls").is_visible()
    opened.context.close()


def test_a_report_of_an_evaluation_runs_nothing_of_the_data(
    browser: sync_api.Browser, evaluation_path: Path, hostile: str
) -> None:
    opened = Opened(browser, evaluation_path, viewport={"width": 1200, "height": 900}, color_scheme="light")
    opened.page.wait_for_timeout(100)
    assert opened.requests == [evaluation_path.as_uri()]
    assert opened.said == []
    for section in ("gates", "result", "slices", "failures", "examples"):
        assert hostile in opened.page.locator(f"#{section}").inner_text(), section
    opened.context.close()


def test_intervals_and_their_names_are_drawn_inside_their_frames(
    browser: sync_api.Browser, tmp_path: Path, evaluation_report: EvaluationReport
) -> None:
    measures = [replace(each, metric=f"a_rather_long_{each.metric}") for each in evaluation_report.measures]
    path = tmp_path / "long.html"
    path.write_text(render_evaluation_report(replace(evaluation_report, measures=measures)), encoding="utf-8")
    opened = Opened(browser, path, viewport={"width": 1200, "height": 900}, color_scheme="light")
    marks = opened.page.locator("#result figure line.whisker, #differences figure line.whisker, #result svg text").all()
    assert len(marks) > 20
    for mark in marks:
        box, frame = mark.bounding_box(), mark.locator("xpath=ancestor::figure").bounding_box()
        assert box is not None and frame is not None
        assert frame["x"] <= box["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"]
    opened.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_reports_are_readable_and_fit_on_a_phone(
    browser: sync_api.Browser, evaluation_path: Path, comparison_path: Path, scheme: str
) -> None:
    settings = {"viewport": {"width": 360, "height": 700}, "has_touch": True, "is_mobile": True}
    selectors = [
        *(".controls label", ".controls select", ".controls output", ".example .title", ".example .question"),
        *(".example .message", ".expected p", ".line", ".pill.good", ".pill.bad", "thead th", ".note"),
    ]
    opened = Opened(browser, evaluation_path, color_scheme=scheme, **settings)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360
    for selector, ratio in opened.page.evaluate(CONTRAST, selectors):
        assert ratio >= 4.5, selector
    opened.context.close()
    opened = Opened(browser, comparison_path, color_scheme=scheme, **settings)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360
    choose(opened, "verdict", "lost")
    assert shown(opened) == ["q3"]
    opened.context.close()


def test_a_thousand_examples_are_filtered_at_once(
    browser: sync_api.Browser, tmp_path: Path, comparison_report: ComparisonReport
) -> None:
    cards = [
        replace(card, id=f"{card.id}-{number}", question=f"{card.question} {'word ' * 100}")
        for number in range(125)
        for card in comparison_report.examples
    ]
    path = tmp_path / "many.html"
    path.write_text(render_comparison_report(replace(comparison_report, examples=cards, num_examples=5000)))
    opened = Opened(browser, path, viewport={"width": 1200, "height": 900})
    assert "1,000 of 5,000 examples" in opened.page.locator("#examples").inner_text()
    took_ms = opened.page.evaluate("""() => {
      const select = document.querySelector(".controls [name=verdict]");
      const began = performance.now();
      select.value = "lost";
      select.dispatchEvent(new Event("input", { bubbles: true }));
      return performance.now() - began;
    }""")
    assert found(opened) == "125 of 1000 examples"
    assert took_ms < 2000
    opened.context.close()
