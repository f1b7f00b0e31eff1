import re
from dataclasses import replace

from genai.report.comparison import render_comparison_report
from genai.report.evaluation_contents import ComparisonReport


def test_it_says_what_changed_and_what_was_not_compared(comparison_report: ComparisonReport, hostile: str) -> None:
    markup = render_comparison_report(comparison_report)
    assert re.findall(r"<h2>(.*?)</h2>", markup) == ["Differences", "Uncompared", "Examples"]
    assert "faq.token_f1 rose: <b>0.440 → 0.500</b>" in markup
    assert "sums: only base measured it &lt;script&gt;" in markup
    assert markup.count('class="card example"') == 8
    assert hostile not in markup


def test_nothing_that_was_compared_leaves_no_headline(comparison_report: ComparisonReport) -> None:
    markup = render_comparison_report(replace(comparison_report, measures=(), examples=(), left_out=()))
    assert re.findall(r"<h2>(.*?)</h2>", markup) == []
    assert 'class="headline"' not in markup
