from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from genai.data.convert.documents import read_document
from genai.data.readers import SourceFile
from genai.data.rows import BadRow


def _read(path: Path, content: bytes) -> str | BadRow:
    path.write_bytes(content)
    return read_document(SourceFile(path=path, name=path.name))


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.txt", b"One\n\n two ", "One\n\n two "),
        ("a.rst", b"Title\r\n=====\r\n", "Title\n=====\n"),
        ("a.txt", "\ufeffé".encode(), "é"),
        ("a.txt", "é".encode("utf-16"), "é"),
        ("a.TXT", b"", ""),
        ("a.md", b"---\ntitle: x\n---\n# Head\n\n<!-- note -->\n*text*\n", "# Head\n\n\n*text*"),
        ("a.md", b"text\n---\nnot: front\n---\n", "text\n---\nnot: front\n---"),
        ("a.markdown", b"`code`", "`code`"),
        ("a.html", b"<p>caf\xc3\xa9", "café"),
        ("a.htm", b'<meta charset="iso-8859-1"><p>caf\xe9', "café"),
        ("a.html", b'<meta charset="no-such-thing"><p>x', "x"),
        ("a.html", b'<meta charset="rot13"><p>x', "x"),
        ("a.txt.gz", gzip.compress(b"packed", mtime=0), "packed"),
    ],
)
def test_documents(name: str, content: bytes, text: str, tmp_path: Path) -> None:
    assert _read(tmp_path / name, content) == text


@pytest.mark.parametrize(
    ("name", "content", "source", "reason"),
    [
        ("a.txt", b"one\ntwo\n\xff", "a.txt:3", "byte 0xff is no UTF-8"),
        ("a.txt.gz", b"no gzip", "a.txt.gz", "the gzip file is damaged"),
        ("a.txt.gz", gzip.compress(b"x" * 1000, mtime=0)[:20], "a.txt.gz", "the gzip file is damaged"),
    ],
)
def test_what_cannot_be_read(name: str, content: bytes, source: str, reason: str, tmp_path: Path) -> None:
    found = _read(tmp_path / name, content)
    assert isinstance(found, BadRow)
    assert found.source == source
    assert reason in found.reason
