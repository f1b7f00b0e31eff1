"""Documents as the ledger keeps them: ids, places, hashes."""

from __future__ import annotations

import hashlib

import pytest
from memory_source import CountingEncoder

from genai.config.index import ChunkingConfig
from genai.errors import DataError
from genai.index.cutting import CutDocument, content_hash, cut_document, heading_of, page_of
from genai.index.interfaces import Document, Section

SECTIONS = (
    Section(start=0, level=1, title="Floors"),
    Section(start=10, level=2, title="Screed"),
    Section(start=20, level=2, title="Tiles"),
    Section(start=30, level=1, title="Walls"),
)


def cut(document: Document, *, max_tokens: int = 3) -> CutDocument:
    return cut_document(
        document,
        digest=content_hash(document),
        version="1",
        settings="s",
        chunking=ChunkingConfig(name="tokens", max_tokens=max_tokens),
        tokens=CountingEncoder(),
    )


def test_chunks_slice_the_text_and_know_their_words() -> None:
    text = "one two  three\nfour five"
    document = cut(Document(key="k", text=text))
    assert [chunk.text for chunk in document.chunks] == ["one two  three", "four five"]
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in document.chunks)
    assert [chunk.ordinal for chunk in document.chunks] == [0, 1]
    assert [chunk.tokens for chunk in document.chunks] == [3, 2]
    assert document.chunks[0].hash == hashlib.sha256(b"one two  three").digest()


def test_an_id_says_key_place_and_words() -> None:
    def ids(key: str, text: str) -> list[str]:
        return [chunk.id for chunk in cut(Document(key=key, text=text)).chunks]

    assert ids("k", "a b c d") == ids("k", "a b c d")
    assert ids("k", "a b c d")[0] == ids("k", "a b c e")[0]
    assert ids("k", "a b c d")[1] != ids("k", "a b c e")[1]
    assert not set(ids("k", "a b c a b c")) & set(ids("other", "a b c a b c"))
    assert len(set(ids("k", "a b c a b c"))) == 2
    # Known answer: another one would make every chunk of every index a new one.
    assert ids("k", "a b c") == ["848a4cf5-478e-56f7-9703-aafafc584ffa"]


def test_no_chunk_has_more_tokens_than_the_encoder_reads() -> None:
    document = cut(Document(key="k", text="word " * 200), max_tokens=1000)
    assert [chunk.tokens for chunk in document.chunks] == [64, 64, 64, 8]


def test_long_texts_are_counted_in_blocks() -> None:
    document = cut(Document(key="k", text="word " * 50_000), max_tokens=64)
    assert sum(chunk.tokens for chunk in document.chunks) == 50_000


def test_an_empty_text_has_no_chunks() -> None:
    assert cut(Document(key="k", text=" \n ")).chunks == ()


@pytest.mark.parametrize(("position", "page"), [(0, 1), (9, 1), (10, 2), (25, 3)])
def test_pages_count_from_one(position: int, page: int) -> None:
    assert page_of(position, (0, 10, 20)) == page


def test_without_pages_there_is_none() -> None:
    assert page_of(5, ()) is None
    assert page_of(0, (3,)) == 1


@pytest.mark.parametrize(
    ("position", "heading"),
    [(0, "Floors"), (9, "Floors"), (10, "Floors > Screed"), (25, "Floors > Tiles"), (99, "Walls")],
)
def test_headings_are_a_path(position: int, heading: str) -> None:
    assert heading_of(position, SECTIONS) == heading


def test_before_the_first_heading_there_is_none() -> None:
    assert heading_of(0, SECTIONS[1:]) is None
    assert heading_of(0, ()) is None


def test_the_hash_covers_all_that_a_document_says() -> None:
    plain = Document(key="k", text="t", metadata={"a": 1, "b": 2})
    others = [
        Document(key="k", text="u", metadata={"a": 1, "b": 2}),
        Document(key="k", text="t", metadata={"a": 1, "b": 3}),
        Document(key="k", text="t", metadata={"a": 1, "b": 2}, tenant="x"),
        Document(key="k", text="t", metadata={"a": 1, "b": 2}, source="elsewhere"),
        Document(key="k", text="t", metadata={"a": 1, "b": 2}, page_starts=(0,)),
        Document(key="k", text="t", metadata={"a": 1, "b": 2}, sections=SECTIONS),
    ]
    assert content_hash(plain) == content_hash(Document(key="k", text="t", metadata={"b": 2, "a": 1}))
    assert len({content_hash(document) for document in (plain, *others)}) == 7


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (Document(key="k", text="half \ud83d"), "half a character"),
        (Document(key="k\udcff", text="t"), "half a character"),
        (Document(key="k", text="t", metadata={"x": float("nan")}), "cannot be stored"),
        (Document(key="k", text="t", metadata={"x": object()}), "cannot be stored"),
    ],
)
def test_what_cannot_be_stored_is_said(document: Document, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        content_hash(document)
