"""Small PDF and Word files, made by hand so that tests know every byte of them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_RELATIONSHIPS = """<?xml version="1.0"?>
<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1"
 Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
 Target="word/document.xml"/></Relationships>"""


def make_pdf(pages: Sequence[Sequence[str]], *, protected: bool = False) -> bytes:
    """A PDF file.

    Args:
        pages: lines of each; a page without lines shows a grey box, as a scanned one would.
        protected: whether it asks for a password.
    """
    kids = " ".join(f"{4 + 2 * index} 0 R" for index in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for index, lines in enumerate(pages):
        drawn = "BT /F1 12 Tf 50 780 Td 14 TL " + " ".join(f"({_escaped(line)}) Tj T*" for line in lines) + " ET"
        drawn = drawn if lines else "0.5 g 50 50 400 600 re f"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {5 + 2 * index} 0 R"
            " /Resources << /Font << /F1 3 0 R >> >> >>"
        )
        objects.append(f"<< /Length {len(drawn.encode('cp1252'))} >>\nstream\n{drawn}\nendstream")
    if protected:
        keys = f"/O <{'5a' * 32}> /U <{'a5' * 32}>"
        objects.append(f"<< /Filter /Standard /V 2 /R 3 /Length 128 /P -3904 {keys} >>")
    return _pdf_of(objects, protected=protected)


def _pdf_of(objects: Sequence[str], *, protected: bool) -> bytes:
    file = io.BytesIO()
    file.write(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, content in enumerate(objects, 1):
        places.append(file.tell())
        file.write(f"{number} 0 obj\n{content}\nendobj\n".encode("cp1252"))
    table = file.tell()
    rows = "".join(f"{place:010} 00000 n \n" for place in places)
    encrypted = f" /Encrypt {len(objects)} 0 R /ID [<{'11' * 16}> <{'11' * 16}>]" if protected else ""
    file.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{rows}".encode())
    file.write(f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R{encrypted} >>\n".encode())
    file.write(f"startxref\n{table}\n%%EOF\n".encode())
    return file.getvalue()


def _escaped(line: str) -> str:
    return line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")


def make_docx(body: str, *, styles: str = "", parts: Mapping[str, str] | None = None, start: str = "") -> bytes:
    """A Word document.

    Args:
        body: what stands in `w:body`.
        styles: what stands in `w:styles`.
        parts: further files of the archive.
        start: what stands before the document's own element.
    """
    main = f'<?xml version="1.0"?>{start}<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>'
    files = {"_rels/.rels": _RELATIONSHIPS, "word/document.xml": main}
    if styles:
        files["word/styles.xml"] = f'<?xml version="1.0"?><w:styles xmlns:w="{WORD}">{styles}</w:styles>'
    return make_zip({**files, **(parts or {})})


def make_zip(files: Mapping[str, str]) -> bytes:
    """A zip archive."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return packed.getvalue()


def paragraph(text: str, style: str = "", *, properties: str = "") -> str:
    """A `w:p` with one run."""
    named = f'<w:pStyle w:val="{style}"/>' if style else ""
    return f"<w:p><w:pPr>{named}{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"
