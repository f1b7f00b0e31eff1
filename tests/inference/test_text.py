"""Tokens into text, against the tokenizers package; stop texts, against a plain search in the whole text."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_tokenizers import byte_level, sentencepiece_like, without_decoder, word_piece
from tokenizers import Tokenizer

from genai.errors import DataError
from genai.inference.text import Finish, TextStream, Vocabulary
from genai.models.generation import GenerationRequest, SamplingParams
from genai.models.references import resolve_model

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
BROKEN = [
    b"\xff",
    b"\x80\x81",
    b"\xe6",
    b"\xe6\xbc",
    b"\xc3\xc3",
    b"\xf0\x9f\x91",
    b"\xf0\x80\x80\x80",
    b"\xed\xa0\x80",
]
"""Runs of bytes that are no text, and of which no part is."""


class Kind:
    """A tokenizer and its vocabulary."""

    def __init__(self, file: Path, *, prompt: list[int]) -> None:
        self.tokenizer = Tokenizer.from_file(str(file))
        self.vocabulary = Vocabulary(file)
        self.prompt = prompt

    def stream(self, *, ends: tuple[int, ...] = (), prompt: list[int] | None = None, **params: Any) -> TextStream:
        request = GenerationRequest(
            id="r", model="m", prompt_ids=prompt or self.prompt, sampling=SamplingParams(max_tokens=10_000, **params)
        )
        return TextStream(self.vocabulary, request, stop_token_ids=ends)

    def expected(self, ids: list[int], *, skip: bool = True) -> str:
        """What the answer adds to the text of its prompt."""
        before = self.tokenizer.decode(self.prompt, skip_special_tokens=skip)
        return str(self.tokenizer.decode([*self.prompt, *ids], skip_special_tokens=skip))[len(before) :]


@pytest.fixture(scope="module")
def bytes_kind(tmp_path_factory: pytest.TempPathFactory) -> Kind:
    return Kind(byte_level(tmp_path_factory.mktemp("bytes")), prompt=[0])


@pytest.fixture(scope="module")
def pieces_kind(tmp_path_factory: pytest.TempPathFactory) -> Kind:
    file = sentencepiece_like(tmp_path_factory.mktemp("pieces"))
    return Kind(file, prompt=[1, Tokenizer.from_file(str(file)).token_to_id("fox")])


@pytest.fixture(scope="module")
def words_kind(tmp_path_factory: pytest.TempPathFactory) -> Kind:
    return Kind(word_piece(tmp_path_factory.mktemp("words")), prompt=[1, 2])


def pieces_of(stream: TextStream, ids: list[int]) -> tuple[list[str], Finish | None]:
    pieces = []
    for token in ids:
        text, finish = stream.push(token)
        pieces.append(text)
        if finish is not None:
            return pieces, finish
    return [*pieces, stream.end()], None


def text_of(stream: TextStream, ids: list[int]) -> str:
    return "".join(pieces_of(stream, ids)[0])


# --- the same as decoding all at once ---------------------------------------------------------------------------------


@given(ids=st.lists(st.integers(0, 401), max_size=40), skip=st.booleans())
def test_any_tokens_of_byte_level_bpe(bytes_kind: Kind, ids: list[int], skip: bool) -> None:
    text = text_of(bytes_kind.stream(skip_special_tokens=skip), ids)
    assert text == bytes_kind.tokenizer.decode(ids, skip_special_tokens=skip)


@given(text=st.text(max_size=40))
def test_any_text_by_byte_level_bpe_has_no_broken_character(bytes_kind: Kind, text: str) -> None:
    pieces, _ = pieces_of(bytes_kind.stream(), bytes_kind.tokenizer.encode(text).ids)
    assert "".join(pieces) == text
    assert UNFINISHED in text or not any(UNFINISHED in piece for piece in pieces)


@given(data=st.data(), skip=st.booleans())
def test_any_tokens_of_a_sentencepiece_vocabulary(pieces_kind: Kind, data: st.DataObject, skip: bool) -> None:
    """Bytes come as the characters of a text, or alone: in a run of both, tokenizers takes back what was whole."""
    byte_of = [pieces_kind.tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(256)]
    left_out = pieces_kind.vocabulary.special_ids if skip else frozenset()
    words = [token for token in range(pieces_kind.vocabulary.vocab_size) if token not in {*byte_of, *left_out}]
    run = st.text(min_size=1, max_size=3).map(str.encode) | st.sampled_from(BROKEN)
    parts = data.draw(st.lists(st.tuples(run, st.sampled_from(words)), max_size=10))
    ids = [token for run, word in parts for token in (*(byte_of[byte] for byte in run), word)]
    assert text_of(pieces_kind.stream(skip_special_tokens=skip), ids) == pieces_kind.expected(ids, skip=skip)


def test_the_space_before_the_first_word_is_kept_behind_a_prompt_and_left_out_at_the_beginning(
    pieces_kind: Kind,
) -> None:
    the, fox = map(pieces_kind.tokenizer.token_to_id, ("▁the", "▁fox"))
    assert text_of(pieces_kind.stream(), [the, fox]) == " the fox"
    assert text_of(pieces_kind.stream(prompt=[1]), [the, fox]) == "the fox"
    assert text_of(pieces_kind.stream(prompt=[1], skip_special_tokens=False), [the, fox]) == " the fox"


@given(ids=st.lists(st.integers(0, 9), max_size=20), skip=st.booleans())
def test_any_tokens_of_a_wordpiece_vocabulary(words_kind: Kind, ids: list[int], skip: bool) -> None:
    assert text_of(words_kind.stream(skip_special_tokens=skip), ids) == words_kind.expected(ids, skip=skip)


def test_words_without_a_decoder(tmp_path: Path) -> None:
    kind = Kind(without_decoder(tmp_path), prompt=[1])
    assert text_of(kind.stream(), [2, 1]) == kind.expected([2, 1]) == " fox the"


# --- single tokens ----------------------------------------------------------------------------------------------------


def test_a_token_has_bytes_and_text(bytes_kind: Kind, pieces_kind: Kind) -> None:
    encode = bytes_kind.tokenizer.encode
    joined = b"".join(map(bytes_kind.vocabulary.token_bytes, encode("naïve 漢字 👋").ids))
    assert joined == "naïve 漢字 👋".encode()
    assert bytes_kind.vocabulary.token_text(bytes_kind.tokenizer.token_to_id("<tool>")) == "<tool>"
    assert bytes_kind.vocabulary.token_bytes(0) == b"<|end|>"
    assert bytes_kind.vocabulary.token_bytes(bytes_kind.vocabulary.vocab_size) == b"", (
        "ids beyond the tokenizer's say nothing"
    )
    assert bytes_kind.vocabulary.token_bytes(-1) == b""
    assert bytes_kind.vocabulary.special_ids == {0, 1}
    half = pieces_kind.tokenizer.token_to_id("<0xE6>")
    assert pieces_kind.vocabulary.token_bytes(half) == b"\xe6"
    assert pieces_kind.vocabulary.token_text(half) == UNFINISHED
    assert pieces_kind.vocabulary.token_bytes(pieces_kind.tokenizer.token_to_id("▁the")) == b" the"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model": {"type": "BPE"}}', "\x80"])
def test_a_damaged_tokenizer_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as refused:
        Vocabulary(file)
    assert refused.value.where == str(file)


# --- the end ----------------------------------------------------------------------------------------------------------


def first_end(text: str, stops: list[str]) -> tuple[int, str] | None:
    """The stop text that is complete first, found the slow way."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            longest = max(found, key=len)
            return end - len(longest), longest
    return None


@given(
    text=st.text("ab,é", max_size=30),
    stops=st.lists(st.text("ab,é", min_size=1, max_size=5), min_size=1, max_size=3),
    include=st.booleans(),
)
@settings(max_examples=300)
def test_the_text_ends_at_the_stop_text_that_is_complete_first(
    bytes_kind: Kind, text: str, stops: list[str], include: bool
) -> None:
    stream = bytes_kind.stream(stop=tuple(stops), include_stop=include)
    ids = [token for letter in text for token in bytes_kind.tokenizer.encode(letter).ids]
    for tokens in (ids, bytes_kind.tokenizer.encode(text).ids):
        stream = bytes_kind.stream(stop=tuple(stops), include_stop=include)
        pieces, finish = pieces_of(stream, tokens)
        expected = first_end(text, stops)
        if expected is None:
            assert finish is None
            assert "".join(pieces) == text
        else:
            start, stop = expected
            assert finish == Finish("stop", stop)
            assert "".join(pieces) == text[: start + len(stop) if include else start]


def test_text_that_may_become_a_stop_text_is_held_back_and_no_more(bytes_kind: Kind) -> None:
    stream = bytes_kind.stream(stop=("###",))
    ids = [bytes_kind.tokenizer.encode(letter).ids[0] for letter in "a##b#"]
    assert [stream.push(token)[0] for token in ids] == ["a", "", "", "##b", ""]
    assert stream.end() == "#"


def test_stop_tokens_of_the_request_and_the_model(bytes_kind: Kind) -> None:
    a, b = (bytes_kind.tokenizer.encode(letter).ids[0] for letter in "ab")
    assert pieces_of(bytes_kind.stream(stop_token_ids=(b,)), [a, b]) == (["a", ""], Finish("stop", b))
    assert pieces_of(bytes_kind.stream(stop_token_ids=(b,), include_stop=True), [a, b]) == (
        ["a", "b"],
        Finish("stop", b),
    )
    assert pieces_of(bytes_kind.stream(ends=(0,)), [a, 0]) == (["a", ""], Finish("stop", None))
    shown = bytes_kind.stream(ends=(0,), include_stop=True, skip_special_tokens=False)
    assert pieces_of(shown, [a, 0]) == (["a", "<|end|>"], Finish("stop", None))
    assert pieces_of(bytes_kind.stream(ends=(0,), ignore_eos=True), [a, 0, b]) == (["a", "", "b", ""], None)
    both = bytes_kind.stream(ends=(0,), ignore_eos=True, stop_token_ids=(0,))
    assert pieces_of(both, [a, 0]) == (["a", ""], Finish("stop", 0))


def test_an_end_brings_what_was_held_back(bytes_kind: Kind) -> None:
    letter, first = bytes_kind.tokenizer.encode("#").ids[0], bytes_kind.tokenizer.encode("\N{SNOWMAN}").ids[0]
    assert text_of(bytes_kind.stream(stop=("##",), ends=(0,)), [letter, 0]) == "#"
    assert text_of(bytes_kind.stream(stop=("##",), ends=(0,)), [letter, first, 0]) == f"#{UNFINISHED}"
    assert text_of(bytes_kind.stream(stop=("##",)), [letter, first]) == f"#{UNFINISHED}"


def test_before_min_tokens_no_stop_text_counts(bytes_kind: Kind) -> None:
    ids = [bytes_kind.tokenizer.encode(letter).ids[0] for letter in "a.b.c"]
    assert text_of(bytes_kind.stream(stop=(".",)), ids) == "a"
    assert text_of(bytes_kind.stream(stop=(".",), min_tokens=2), ids) == "a.b"
    assert text_of(bytes_kind.stream(stop=("b.",), min_tokens=3), ids) == "a.b.c", "it began too early"


@pytest.mark.integration
def test_smollm2_tokens_cost_little() -> None:
    kind = Kind(resolve_model("gallery:smollm2-135m-instruct").path / "tokenizer.json", prompt=[1])
    ids = kind.tokenizer.encode(Path(__file__).read_text(encoding="utf-8") * 3 + "漢字かな 👋🏽" * 200).ids
    for params in ({}, {"stop": ("\n" * 5, "#" * 9, "assert" * 3, "def " * 2)}):
        text_of(kind.stream(**params), ids)
        start = time.process_time()
        text = text_of(kind.stream(**params), ids)
        cost_us = (time.process_time() - start) / len(ids) * 1e6
        assert text == kind.tokenizer.decode(ids)
        assert cost_us < 10, f"{cost_us:.1f} us a token"
