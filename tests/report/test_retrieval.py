import html
import re
from dataclasses import replace

import pytest

from genai.report import MetricChange, RetrievalReport, render_retrieval_report


def text_of(markup: str) -> str:
    """What a page says, without its markup."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", markup, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def headings(markup: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", markup)


def test_everything_is_shown(retrieval_report: RetrievalReport) -> None:
    markup = render_retrieval_report(retrieval_report)
    assert headings(markup) == [
        *("Result", "Promotion", "Queries", "Curves", "Search", "Data", "Labels", "Proofs", "Origin"),
    ]
    said = text_of(markup)
    for words in (
        "genai embed-finetune faq-1f3c done",
        "ndcg@10 rose: 0.612 → 0.670 +0.058",
        "recall@1 0.440 0.506 +0.066 +0.046 to +0.086",
        "map@100 0.500 0.510 +0.010 -0.010 to +0.030",
        "Vectors cut to 192 numbers",
        "Vectors cut to 96 numbers",
        "General set: what is forgotten",
        "over 500 held-out queries",
        "not promoted ndcg@10 0.67 is not > 0.7",
        "registry faq@3",
        "Further up (61)",
        "Further down (1,012)",
        "found first before; answer not found",
        "found first after; answer at 7 (nothing)",
        "2 seed=2 won 0.6400 40ba 41 s",
        "its passage is at 14",
        "left out, since held-out ones resemble them (12)",
        "p.jsonl:3 p.jsonl:90 0.93",
        "positive 0.610 Small stones.",
        "negative, above 0.700 Gravel.",
        "negative Clay.",
        "gradient passed largest difference 3e-6 4.2 s",
    ):
        assert words in said, words
    assert said.index("Vectors cut to 192") < said.index("Vectors cut to 96")


def test_a_table_has_as_many_cells_as_its_head(retrieval_report: RetrievalReport) -> None:
    tables = re.findall(r"<table.*?</table>", render_retrieval_report(retrieval_report), flags=re.DOTALL)
    assert len(tables) >= 9
    for each in tables:
        head, *rows = re.findall(r"<tr.*?</tr>", each, flags=re.DOTALL)
        assert {len(re.findall(r"<t[hd]\b", row)) for row in rows} == {len(re.findall(r"<th\b", head))}, each


def test_hostile_text_is_shown_and_does_nothing(retrieval_report: RetrievalReport, hostile: str) -> None:
    markup = render_retrieval_report(retrieval_report)
    assert markup.count("<script") == markup.count("</script>") == 1
    assert "<img" not in markup
    assert text_of(markup).count(hostile) >= 9


@pytest.mark.parametrize(
    ("difference", "spread", "words", "colour"),
    [(0.05, 0.02, "rose", "good"), (-0.05, 0.02, "fell", "bad"), (0.05, 0.06, "did not clearly change", "neutral")],
)
def test_the_headline_says_only_what_is_certain(
    retrieval_report: RetrievalReport, difference: float, spread: float, words: str, colour: str
) -> None:
    row: MetricChange = replace(
        retrieval_report.changes[0], difference=difference, low=difference - spread, high=difference + spread
    )
    markup = render_retrieval_report(replace(retrieval_report, changes=[row]))
    headline = re.search(r'<p class="headline">.*?</p>', markup, flags=re.DOTALL)
    assert headline is not None
    assert f"recall@1 {words}: " in headline[0]
    assert f'class="pill {colour}"' in headline[0]


def test_what_is_empty_is_left_out() -> None:
    markup = render_retrieval_report(RetrievalReport(run_name="faq-1"))
    assert headings(markup) == []
    assert "<figure" not in markup and "headline" not in re.sub(r"<style>.*?</style>", "", markup, flags=re.DOTALL)
