import html
import re

from genai.report import IndexReport, render_index_report


def text_of(markup: str) -> str:
    """What a page says, without its markup."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", markup, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def headings(markup: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", markup)


def test_everything_is_shown(index_report: IndexReport) -> None:
    markup = render_index_report(index_report)
    assert headings(markup) == ["Changes", "Map", "Documents", "Origin"]
    said = text_of(markup)
    for words in (
        "genai index faq-2 done",
        "gallery:all-minilm-l6-v2 · 2026-11-22 01:48:41 UTC",
        "Taken over by this sync documents upserted 12 documents removed 1",
        "Chunk lengths",
        "0 to 200 tokens: 41 chunks",
        "Two principal components.",
        "Slowest to read (1)",
        "big.pdf 812 pages 4.2 s",
        "the file is encrypted",
    ):
        assert words in said, words
    assert markup.count("<circle") == 50


def test_hostile_text_is_shown_and_does_nothing(index_report: IndexReport, hostile: str) -> None:
    markup = render_index_report(index_report)
    assert markup.count("<script") == markup.count("</script>") == 1
    assert text_of(markup).count(hostile) >= 6


def test_what_is_empty_is_left_out() -> None:
    markup = render_index_report(IndexReport(run_name="faq-1"))
    assert headings(markup) == []
    assert "<figure" not in markup
