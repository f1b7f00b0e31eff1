"""Two runs of an evaluation side by side: what became better and worse, and on which examples."""

from __future__ import annotations

from collections.abc import Sequence

from genai.report.evaluation import difference_headline
from genai.report.evaluation_contents import ComparisonReport
from genai.report.examples import PART, example_browser
from genai.report.html import Html, element
from genai.report.measures import difference_section
from genai.report.pieces import report_page


def render_comparison_report(report: ComparisonReport) -> str:
    """One HTML page that needs nothing but itself; all text in it is escaped."""
    sections = {
        "Differences": difference_section(
            report.measures,
            baseline=report.first,
            columns=list(dict.fromkeys(measure.target for measure in report.measures)),
        ),
        "Uncompared": _left_out(report.left_out),
        "Examples": example_browser(
            report.examples,
            baseline=report.first,
            num_examples=report.num_examples,
            lower_is_better=[measure.metric for measure in report.measures if not measure.higher_is_better],
        ),
    }
    compared = [measure for measure in report.measures if measure.difference is not None]
    headline = difference_headline(compared) if compared else None
    return report_page(
        report, sections, about=[f"{report.second} beside {report.first}"], headline=headline, parts=[PART]
    )


def _left_out(left_out: Sequence[str]) -> Html | None:
    return element("ul", *(element("li", words) for words in left_out)) if left_out else None
