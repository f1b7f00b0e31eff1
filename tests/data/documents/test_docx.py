from __future__ import annotations

import contextlib
import io
import zipfile
from xml.sax.saxutils import escape

import pytest
from document_makers import WORD, make_docx, make_zip, paragraph
from hypothesis import given
from hypothesis import strategies as st

from genai.data.documents.docx import parse_docx
from genai.errors import DataError

STYLES = """
<w:style w:type="paragraph" w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>
<w:style w:type="paragraph" w:styleId="Kapitel"><w:name w:val="Kapitel"/><w:basedOn w:val="berschrift1"/></w:style>
<w:style w:type="paragraph" w:styleId="Titel"><w:name w:val="Title"/></w:style>
<w:style w:type="paragraph" w:styleId="Tief"><w:name w:val="Tief"/><w:pPr><w:outlineLvl w:val="2"/></w:pPr></w:style>
<w:style w:type="paragraph" w:styleId="Verzeichnis1"><w:name w:val="toc 1"/></w:style>
<w:style w:type="paragraph" w:styleId="Punkt"><w:name w:val="List Bullet"/></w:style>
<w:style w:type="paragraph" w:styleId="Kreis"><w:name w:val="Kreis"/><w:basedOn w:val="Kreis"/></w:style>
"""
_NUMBERED = '<w:numPr><w:ilvl w:val="{}"/><w:numId w:val="{}"/></w:numPr>'


def test_paragraphs_headings_lists_and_tables() -> None:
    cell = "<w:tc><w:p><w:r><w:t>{}</w:t></w:r></w:p></w:tc>"
    rows = "".join(f"<w:tr>{cell.format(a)}{cell.format(b)}</w:tr>" for a, b in (("k", "v"), ("1", "2")))
    body = "".join(
        [
            paragraph("Handbuch", "Titel"),
            paragraph("Inhalt 1", "Verzeichnis1"),
            paragraph("Böden", "berschrift1"),
            paragraph("Estrich &amp; mehr"),
            paragraph("", "berschrift1"),
            paragraph("eins", properties=_NUMBERED.format(0, 3)),
            paragraph("zwei", "Punkt"),
            paragraph("tiefer", properties=_NUMBERED.format(1, 3)),
            paragraph("keiner", "Punkt", properties=_NUMBERED.format(0, 0)),
            paragraph("Dach", "Kapitel"),
            paragraph("Unten", "Tief"),
            paragraph("Auch", properties='<w:outlineLvl w:val="1"/>'),
            paragraph("Keine", "berschrift1", properties='<w:outlineLvl w:val="9"/>'),
            paragraph("Rund", "Kreis"),
            f"<w:tbl>{rows}</w:tbl>",
        ]
    )
    document = parse_docx(make_docx(body, styles=STYLES))
    assert document.text == (
        "Handbuch\n\nBöden\n\nEstrich & mehr\n\n- eins\n- zwei\n  - tiefer\n\nkeiner\n\nDach\n\nUnten\n\nAuch\n\n"
        "Keine\n\nRund\n\nk\tv\n1\t2"
    )
    headings = [(section.level, section.title) for section in document.sections]
    assert headings == [(1, "Handbuch"), (1, "Böden"), (1, "Dach"), (3, "Unten"), (2, "Auch")]
    assert all(document.text[section.start :].startswith(section.title) for section in document.sections)


def test_runs_with_tabs_breaks_and_changes() -> None:
    body = (
        '<w:p><w:pPr><w:tabs><w:tab w:val="left" w:pos="9"/></w:tabs></w:pPr>'
        '<w:r><w:t xml:space="preserve">one </w:t></w:r><w:r><w:t>two</w:t><w:tab/><w:t>three</w:t><w:br/>'
        "<w:t>four</w:t><w:noBreakHyphen/><w:t>five</w:t></w:r>"
        "<w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:moveFrom><w:r><w:t>gone</w:t></w:r></w:moveFrom>"
        "<w:ins><w:r><w:t> new</w:t></w:r></w:ins><w:r><w:instrText>PAGE</w:instrText></w:r></w:p>"
    )
    assert parse_docx(make_docx(body)).text == "one two\tthree\nfour-five new"


def test_a_text_box_is_read_once() -> None:
    compatibility = "http://schemas.openxmlformats.org/markup-compatibility/2006"
    box = f"<w:txbxContent>{paragraph('in the box')}</w:txbxContent>"
    body = (
        f'<w:p><w:r><mc:AlternateContent xmlns:mc="{compatibility}"><mc:Choice>{box}</mc:Choice>'
        f"<mc:Fallback>{box}</mc:Fallback></mc:AlternateContent><w:t>around</w:t></w:r></w:p>"
    )
    assert parse_docx(make_docx(body)).text == "in the box\n\naround"


def test_nested_tables_become_one_cell() -> None:
    inner = f"<w:tbl><w:tr><w:tc>{paragraph('a')}</w:tc><w:tc>{paragraph('b')}</w:tc></w:tr></w:tbl>"
    body = f"<w:tbl><w:tr><w:tc>{inner}{paragraph('c')}</w:tc><w:tc>{paragraph('d')}</w:tc></w:tr></w:tbl>"
    assert parse_docx(make_docx(body)).text == "a b c\td"


def test_notes_follow_the_text_and_style_ids_stand_for_names() -> None:
    notes = f'<w:footnotes xmlns:w="{WORD}"><w:footnote>{paragraph("a note")}</w:footnote></w:footnotes>'
    document = parse_docx(make_docx(paragraph("Head", "Heading2"), parts={"word/footnotes.xml": notes}))
    assert document.text == "Head\n\na note"
    assert [section.level for section in document.sections] == [2]


def test_strict_documents_and_other_names_of_the_main_part() -> None:
    strict = "http://purl.oclc.org/ooxml/wordprocessingml/main"
    kind = "http://purl.oclc.org/ooxml/officeDocument/relationships/officeDocument"
    files = {
        "_rels/.rels": f'<Relationships><Relationship Type="{kind}" Target="/word/document2.xml"/></Relationships>',
        "word/document2.xml": f'<d:body xmlns:d="{strict}"><d:p><d:r><d:t>x</d:t></d:r></d:p></d:body>',
    }
    assert parse_docx(make_zip(files)).text == "x"


BOMB = '<!DOCTYPE w [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (make_docx(paragraph("x"))[:-30], "damaged or cut off"),
        (make_docx(paragraph("x" * 9000))[:400], "damaged or cut off"),
        (make_docx("<w:p>"), "mismatched tag"),
        (make_docx(paragraph("&b;"), start=BOMB), "document type declaration"),
        (make_docx(paragraph("&x;"), start='<!DOCTYPE w SYSTEM "file:///etc/passwd">'), "document type declaration"),
        (make_zip({"xl/workbook.xml": "<x/>"}), "no Word document"),
        (make_docx(paragraph("a" * (6 << 20))), "zip bomb: word/document.xml"),
        (make_docx(paragraph("a"), parts={"word/styles.xml": " " * (6 << 20)}), "zip bomb: word/styles.xml"),
    ],
)
def test_what_cannot_be_used(content: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        parse_docx(content)


def test_an_archive_that_lies_about_a_size_is_caught() -> None:
    content = bytearray(make_docx(paragraph(escape("a b c " * 400_000))))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = archive.getinfo("word/document.xml").file_size.to_bytes(4, "little")
    assert content.count(size) == 2
    with pytest.raises(DataError, match="damaged"):
        parse_docx(bytes(content.replace(size, (100).to_bytes(4, "little"))))


@given(st.integers(0, 2000), st.integers(0, 255))
def test_a_byte_that_flipped_is_no_crash(place: int, value: int) -> None:
    content = bytearray(make_docx(paragraph("one") + paragraph("two", "Heading1"), styles=STYLES))
    content[place % len(content)] = value
    with contextlib.suppress(DataError):
        parse_docx(bytes(content))
