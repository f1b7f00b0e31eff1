from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from genai.data.chunking import CHUNKERS, Piece, Tokens, cut
from genai.errors import UsageError

Tokenizer = Callable[[str], list[tuple[int, int]]]
NAMES = (*CHUNKERS, "none")


def words(text: str) -> list[tuple[int, int]]:
    """Tokens as BERT has them: words and signs, white space left out."""
    return [match.span() for match in re.finditer(r"\w{1,6}|[^\w\s]", text)]


def spaced_words(text: str) -> list[tuple[int, int]]:
    """Tokens as GPT-2 has them: with the space before them, and white space of its own."""
    return [match.span() for match in re.finditer(r" ?\w{1,6}|[^\w\s]|\s", text)]


def byte_tokens(text: str) -> list[tuple[int, int]]:
    """A token a byte: several share one character."""
    return [(index, index + 1) for index, sign in enumerate(text) for _ in sign.encode("utf-8", "surrogatepass")]


def _cut(
    text: str, name: str, max_tokens: int, overlap_tokens: int = 0, section_starts: Sequence[int] = ()
) -> list[str]:
    pieces = cut(
        text, words, name=name, max_tokens=max_tokens, overlap_tokens=overlap_tokens, section_starts=section_starts
    )
    return [text[piece.start : piece.end] for piece in pieces]


def test_recursive_cuts_at_the_best_place_that_fits() -> None:
    text = "# A\n\nOne two three four.\n\n# B\n\nFive six. Seven eight nine ten eleven twelve."
    assert _cut(text, "recursive", 100) == [text]
    assert _cut(text, "recursive", 11, section_starts=[0, text.index("# B")]) == [
        "# A\n\nOne two three four.",
        "# B\n\nFive six.",
        "Seven eight nine ten eleven twelve.",
    ]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("a b cc\n\nd ee. F g\nh i j", "a b cc"),  # an empty line comes before a sentence
        ("a b cc.\nee. F g\nh i j", "a b cc."),  # so does a line that ends a sentence
        ("a b cc. D\ne f g h i j", "a b cc."),  # a sentence comes before a wrapped line
        ("a b c d\ne f g h i j", "a b c d"),  # a wrapped line before a word
        ("a b c d e f g h i j", "a b c d e f"),
        ("- a b\n- c d\n- e f", "- a b\n- c d"),
    ],
)
def test_the_order_of_boundaries(text: str, first: str) -> None:
    assert _cut(text, "recursive", 6)[0] == first


def test_a_heading_stays_with_its_text() -> None:
    text = "intro " * 5 + "\n\n## Head\n\n" + "word " * 30
    chunks = _cut(text, "recursive", 16, section_starts=[text.index("##")])
    assert chunks[0] == ("intro " * 5).strip()
    assert chunks[1].startswith("## Head\n\nword")


def test_sentences_are_kept_whole_where_they_fit() -> None:
    text = "One two. Three four five. Six. Seven eight nine ten eleven twelve thirteen."
    assert _cut(text, "sentence", 8) == [
        "One two. Three four five.",
        "Six.",
        "Seven eight nine ten eleven twelve",
        "thirteen.",
    ]
    assert _cut("A bb. C dd. E ff. G hh.", "sentence", 9, 3) == ["A bb. C dd. E ff.", "E ff. G hh."]


def test_tokens_fill_every_chunk() -> None:
    assert _cut("a b c d e f g", "tokens", 3) == ["a b c", "d e f", "g"]
    assert _cut("a b c d e f g", "tokens", 3, 1) == ["a b c", "c d e", "e f g"]
    assert _cut("abcdefghijkl", "tokens", 1) == ["abcdef", "ghijkl"]


def test_heading_makes_a_chunk_of_each_section() -> None:
    text = "before\n# A\none\n## B\ntwo three four five six seven eight"
    starts = [text.index("# A"), text.index("## B")]
    assert _cut(text, "heading", 50, section_starts=starts) == ["before", "# A\none", text[text.index("## B") :]]
    assert _cut(text, "heading", 8, 2, section_starts=starts) == [
        "before",
        "# A\none",
        "## B\ntwo three four five six",
        "five six seven eight",
    ]


def test_none_takes_the_text_as_it_is() -> None:
    assert _cut("  a b c\n", "none", 1) == ["a b c"]


def test_an_overlap_repeats_whole_words_of_the_same_section() -> None:
    assert _cut("one two three four five six seven", "recursive", 4, 2) == [
        "one two three four",
        "three four five six",
        "five six seven",
    ]
    text = "one two three\n\n# B\n\nfour five six"
    assert _cut(text, "recursive", 5, 2, section_starts=[text.index("#")]) == ["one two three", "# B\n\nfour five six"]


def test_words_without_end_are_cut_at_tokens() -> None:
    chunks = _cut("x" * 100, "recursive", 4, 1)
    assert [len(chunk) for chunk in chunks[:2]] == [24, 24]
    assert chunks[-1].endswith("x")
    assert _cut("漢" * 30, "sentence", 2) == ["漢" * 12, "漢" * 12, "漢" * 6]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_gives_nothing(name: str) -> None:
    assert _cut("", name, 5) == []
    assert _cut(" \n\t\r\n ", name, 5) == []


@pytest.mark.parametrize("name", CHUNKERS)
def test_a_character_of_many_tokens_is_no_endless_loop(name: str) -> None:
    text = "a😀 b"
    pieces = cut(text, byte_tokens, name=name, max_tokens=2, overlap_tokens=1)
    assert [text[start:end] for start, end in pieces] == ["a", "😀", "b"]


def test_known_tokens_are_taken() -> None:
    text = "a b c d"
    tokens = Tokens(text, words)
    assert cut(text, tokens, name="tokens", max_tokens=2, overlap_tokens=0) == [Piece(0, 3), Piece(4, 7)]


def test_mistakes() -> None:
    with pytest.raises(UsageError, match="no way of cutting texts called 'recursiv'"):
        _cut("a", "recursiv", 5)
    with pytest.raises(UsageError, match="leaves no room"):
        _cut("a", "tokens", 5, 5)


_TEXT = st.text(
    st.one_of(st.sampled_from(list('ab. \n\n\r\t#-.!?1"')), st.characters(exclude_categories=["Cs"])), max_size=200
)


@given(
    text=_TEXT,
    name=st.sampled_from(NAMES),
    tokenizer=st.sampled_from([words, spaced_words, byte_tokens]),
    max_tokens=st.integers(1, 20),
    overlap=st.integers(0, 19),
    sections=st.lists(st.integers(0, 200)),
)
@example(text="a" * 190, name="sentence", tokenizer=words, max_tokens=2, overlap=1, sections=[])
@example(text="a. " * 60, name="sentence", tokenizer=words, max_tokens=9, overlap=8, sections=[3, 9])
@example(text="\x1f\u200b\u00ad", name="recursive", tokenizer=words, max_tokens=2, overlap=1, sections=[])
def test_what_holds_for_every_text(
    text: str,
    name: str,
    tokenizer: Tokenizer,
    max_tokens: int,
    overlap: int,
    sections: list[int],
) -> None:
    overlap = min(overlap, max_tokens - 1)
    starts = sorted({start for start in sections if start < len(text)})
    pieces = cut(text, tokenizer, name=name, max_tokens=max_tokens, overlap_tokens=overlap, section_starts=starts)
    tokens = Tokens(text, tokenizer)
    covered = [False] * len(text)
    for start, end in pieces:
        assert 0 <= start < end <= len(text)
        assert text[start:end] == text[start:end].strip()
        assert name == "none" or tokens.count(start, end) <= max_tokens or end - start == 1
        covered[start:end] = [True] * (end - start)
    assert all(covered[index] for index, sign in enumerate(text) if not sign.isspace())
    for (start, end), (next_start, next_end) in pairwise(pieces):
        assert start < next_start and end < next_end
        shared = tokens.count(next_start, end) if next_start < end else 0
        assert shared <= overlap
        if not overlap:
            assert end <= next_start
    if name == "heading":
        assert not any(start < section < end for start, end in pieces for section in starts)
