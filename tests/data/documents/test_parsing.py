from __future__ import annotations

import pytest
from document_makers import make_docx, make_pdf, make_zip, paragraph

from genai.data.documents import DOCUMENT_SUFFIXES, Section, parse
from genai.data.documents.parsing import MAX_TITLE_CHARS
from genai.errors import DataError


@pytest.mark.parametrize(
    ("suffix", "content", "text"),
    [
        (".pdf", make_pdf([["text"]]), "text"),
        (".docx", make_docx(paragraph("text")), "text"),
        (".html", b"<h1>text</h1>", "text"),
        (".htm", b"<meta charset=latin1><p>caf\xe9", "café"),
        (".xhtml", b"<p>text</p>", "text"),
        (".md", b"# text\r\n", "# text\n"),
        (".markdown", b"text", "text"),
        (".txt", "\ufeffété".encode(), "été"),
        (".text", "été".encode("utf-16"), "été"),
        (".rst", b"text\n====\n", "text\n====\n"),
        (".txt", b"a" * 9000 + b"\0b", "a" * 9000 + "\ufffdb"),
        (".html", b"half a pair: &#xD800; and \\ud800", "half a pair: \ufffd and \\ud800"),
    ],
)
def test_all_kinds(suffix: str, content: bytes, text: str) -> None:
    assert suffix in DOCUMENT_SUFFIXES
    assert parse(content, suffix).text == text


def test_headings_come_through_and_long_ones_are_cut() -> None:
    assert parse(b"## a\n", ".md").sections == (Section(start=0, level=2, title="a"),)
    (section,) = parse(b"# " + b"long " * 100, ".md").sections
    assert len(section.title) == MAX_TITLE_CHARS and section.title.endswith("…")


@pytest.mark.parametrize(
    ("suffix", "content", "reason"),
    [
        (".txt", b"", "the file is empty"),
        (".txt", b" \n", "there is no text"),
        (".html", b"<script>x</script>", "there is no text"),
        (".docx", make_docx(""), "there is no text"),
        (".txt", b"a\ncaf\xe9", "line 2: byte 0xe9 is no UTF-8"),
        (".txt", b"\x7fELF\0\0", "NUL bytes"),
        (".md", make_pdf([["x"]]), "it is a PDF"),
        (".html", make_zip({"a": "b"}), "it is a zip archive"),
        (".rst", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old office document"),
        (".pdf", b"\n<!doctype html><p>Not found", "it is no PDF, but an HTML page"),
        (".pdf", make_docx(paragraph("x")), "it is no PDF, but something else"),
        (".docx", b"plain", "it is no Word document"),
        (".docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "protected by a password, or a Word document of before 2007"),
    ],
)
def test_what_cannot_be_used(suffix: str, content: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        parse(content, suffix)
