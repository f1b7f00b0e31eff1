import html
import re
from dataclasses import replace

import pytest

from genai.report.evaluation import render_evaluation_report
from genai.report.evaluation_contents import DifferenceRow, EvaluationReport, GateRow


def text_of(markup: str) -> str:
    """What a page says, without its markup."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", markup, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def headings(markup: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", markup)


def headline(markup: str) -> str:
    found = re.search(r'<p class="headline">.*?</p>', markup, flags=re.DOTALL)
    return "" if found is None else text_of(found[0])


def test_everything_is_shown(evaluation_report: EvaluationReport) -> None:
    markup = render_evaluation_report(evaluation_report)
    expected = ["Gates", "Result", "Differences", "Slices", "Failures", "Data", "Cost", "Examples", "Origin"]
    assert headings(markup) == expected
    said = text_of(markup)
    for words in (
        "genai eval faq-eval failed",
        "tuned, other · beside base · faq, sums",
        "does not hold faq.token_f1 >= 0.9 tuned faq.token_f1 0.741 is not >= 0.9",
        "base (baseline) tuned other",
        "0.741 +0.362 0.612 to 0.861, 58 examples 2 without an answer 1 could not be scored",
        "latency_s lower is better",
        "1.070 s -0.500 s",
        "helpfulness - - 0.700 0.600 to 0.800, 60 examples no gate may rest on it",
        "token_f1 of tuned: only 9 examples",
        "tuned faq.token_f1 0.379 0.741 +0.362 +0.159 to +0.550 < 0.001 28 7 24 11,002",
        "faq.token_f1 of tuned: worst topic roofs, 0.400 against 0.741 in all",
        "and 3 better ones",
        "No answer (12)",
        "Not scored (1)",
        "tuned 400 100 $0.02",
        "judge 10 20 no price",
        "default_average 0.412",
        "3 of 900 examples: faults and differences first",
        "token_f1: three words are missing",
        "token_f1: not scored, the judge said nonsense",
        "no answer: HTTP 500",
    ):
        assert words in said, words


def test_a_table_has_as_many_cells_as_its_head(evaluation_report: EvaluationReport) -> None:
    tables = re.findall(r"<table.*?</table>", render_evaluation_report(evaluation_report), flags=re.DOTALL)
    assert len(tables) >= 8
    for each in tables:
        head, *rows = re.findall(r"<tr.*?</tr>", each, flags=re.DOTALL)
        assert {len(re.findall(r"<t[hd]\b", row)) for row in rows} == {len(re.findall(r"<th\b", head))}, each


def test_hostile_text_is_shown_and_does_nothing(evaluation_report: EvaluationReport, hostile: str) -> None:
    markup = render_evaluation_report(evaluation_report)
    assert markup.count("<script") == markup.count("</script>") == 1
    assert "<img" not in markup
    assert text_of(markup).count(hostile) >= 10


def test_the_headline_is_about_the_gates(evaluation_report: EvaluationReport) -> None:
    gates = [GateRow(gate="faq.token_f1 >= 0.1", target="tuned", passed=True, reason="r")]
    assert headline(render_evaluation_report(evaluation_report)).startswith("1 of 2 gates does not hold faq.token_f1")
    for number, words in ((1, "The gate holds"), (2, "All 2 gates hold")):
        assert headline(render_evaluation_report(replace(evaluation_report, gates=gates * number))) == words


@pytest.mark.parametrize(
    ("difference", "significant", "words", "colour"),
    [
        (0.1, True, "rose: 0.379 → 0.741 +0.100", "good"),
        (-0.1, True, "fell: 0.379 → 0.741 -0.100", "bad"),
        (0.1, False, "did not clearly change: 0.379 → 0.741 +0.100", "neutral"),
    ],
)
def test_without_gates_the_headline_is_what_changed(
    evaluation_report: EvaluationReport, difference: float, significant: bool, words: str, colour: str
) -> None:
    measure = next(each for each in evaluation_report.measures if each.difference is not None)
    found = measure.difference
    assert isinstance(found, DifferenceRow)
    changed = replace(measure, difference=replace(found, difference=difference, significant=significant))
    markup = render_evaluation_report(replace(evaluation_report, gates=(), measures=[changed]))
    assert headline(markup) == f"faq.token_f1 {words}"
    assert f'class="pill {colour}"' in markup


def test_less_is_a_gain_where_small_is_good(evaluation_report: EvaluationReport) -> None:
    latency = [each for each in evaluation_report.measures if each.metric == "latency_s" and each.difference]
    markup = render_evaluation_report(replace(evaluation_report, gates=(), measures=latency))
    assert headline(markup) == "faq.latency_s fell: 1.570 s → 1.070 s -0.500 s"
    assert re.search(r'class="pill good">-0.500 s<', markup)


def test_what_is_empty_is_left_out() -> None:
    markup = render_evaluation_report(EvaluationReport(run_name="faq-1"))
    assert headings(markup) == []
    assert "<figure" not in markup and headline(markup) == ""
