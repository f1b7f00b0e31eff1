from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from document_makers import make_pdf

from genai.data.documents.pdf import parse_pdf
from genai.errors import DataError, MissingExtraError


def test_pages_and_their_starts() -> None:
    document = parse_pdf(make_pdf([["First page", "café (1)"], [], ["Third", "page"]]))
    assert document.text == "First page\ncafé (1)\n\nThird\npage"
    assert document.page_starts == (0, 21, 21)
    assert document.text[21:] == "Third\npage"
    assert document.sections == ()


def test_a_page_without_text_at_the_end() -> None:
    document = parse_pdf(make_pdf([["only"], []]))
    assert (document.text, document.page_starts) == ("only", (0, 6))


def test_dots_that_lead_to_a_page_number_are_shortened() -> None:
    document = parse_pdf(make_pdf([["1 Scope . . . . . . . . . . 7", "2 Terms ............ 9", "and so on..."]]))
    assert document.text == "1 Scope … 7\n2 Terms … 9\nand so on..."


@pytest.mark.parametrize(
    ("content", "reason", "fix"),
    [
        (make_pdf([["secret"]], protected=True), "protected by a password", "without one"),
        (make_pdf([[], []]), "holds no text: none of its 2 pages has any", "OCR"),
        (make_pdf([[]]), "holds no text: its page has any", "OCR"),
        (b"%PDF-1.7\nnothing of a PDF", "damaged", "viewer"),
        (make_pdf([["x"]])[:60], "damaged", "viewer"),
    ],
)
def test_what_cannot_be_used(content: bytes, reason: str, fix: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        parse_pdf(content)
    assert caught.value.fix is not None and fix in caught.value.fix


def test_a_file_that_lost_its_end_is_read_where_pdfium_can() -> None:
    content = make_pdf([["One"], ["Two"]])
    assert parse_pdf(content[: content.index(b"startxref")]).text == "One\n\nTwo"


def test_without_pdfium_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(MissingExtraError, match="reading PDF files") as caught:
        parse_pdf(make_pdf([["x"]]))
    assert caught.value.extra == "index"


@pytest.mark.integration
@pytest.mark.needs("chromium")
def test_what_a_browser_prints(tmp_path: Path) -> None:
    words = [f"Sentence number {number} is about façades, ﬁtting and 50 mm of screed." for number in range(400)]
    rows = "".join(f"<p>{word}</p>" for word in words)
    (tmp_path / "page.html").write_text(f"<meta charset=utf-8><h1>Building . . . . . . . . . . . . . . 7</h1>{rows}")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-pdf-header-footer",
        f"--user-data-dir={tmp_path / 'user'}",
    ]
    subprocess.run(
        ["chromium", *flags, f"--print-to-pdf={tmp_path / 'page.pdf'}", (tmp_path / "page.html").as_uri()],
        check=True,
        capture_output=True,
        timeout=60,
    )
    document = parse_pdf((tmp_path / "page.pdf").read_bytes())
    text = document.text.replace("\n", " ").replace("ﬁ", "fi")
    assert len(document.page_starts) > 5
    assert list(document.page_starts) == sorted(document.page_starts)
    assert all(word.replace("ﬁ", "fi") in " ".join(text.split()) for word in words)
    assert ". . . ." not in document.text
    assert "\r" not in document.text and "\ufffe" not in document.text
