from __future__ import annotations

import codecs

import pytest

from genai.data.documents.decoding import UndecodableError, declared_encoding, decode


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("é\r\nb\n".encode(), "é\nb\n"),
        (codecs.BOM_UTF8 + "é".encode(), "é"),
        (codecs.BOM_UTF16_LE + "é".encode("utf-16-le"), "é"),
        (codecs.BOM_UTF16_BE + "é".encode("utf-16-be"), "é"),
        (b"", ""),
    ],
)
def test_decode(content: bytes, text: str) -> None:
    assert decode(content) == text


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_a_byte_that_is_none_of_the_encoding_is_named_with_its_line(mark: bytes) -> None:
    with pytest.raises(UndecodableError, match="byte 0xe9 is no UTF-8") as caught:
        decode(mark + b"one\ntwo\ncaf\xe9")
    assert caught.value.line == 3


def test_declared_encodings() -> None:
    assert declared_encoding(b'<meta charset="iso-8859-1">') == "iso-8859-1"
    assert declared_encoding(b'<meta http-equiv=x content="text/html; charset=koi8-r">') == "koi8-r"
    assert declared_encoding(b"<meta charset=rot13>") == "utf-8"
    assert declared_encoding(b"<p>") == "utf-8"
