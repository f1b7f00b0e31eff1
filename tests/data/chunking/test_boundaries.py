from __future__ import annotations

import pytest

from genai.data.chunking.boundaries import FINDERS, Rank, first_sentence, first_word, last_section


@pytest.mark.parametrize(
    ("rank", "text", "before"),
    [
        ("paragraph", "one\n\ntwo\n \t\nthree", "one\n\ntwo"),
        ("paragraph", "one\r\n\r\ntwo", "one"),
        ("paragraph", "one\ntwo", None),
        ("line", "Ends here.\nno\nstop", "Ends here."),
        ("line", 'He said "no."\nand', 'He said "no."'),
        ("line", "Items\n- one\n- two", "Items\n- one"),
        ("line", "Steps\n1. one", "Steps"),
        ("line", "|a|\n|b|", "|a|"),
        ("line", "wrapped\nline", None),
        ("sentence", "One. Two is long", "One."),
        ("any_line", "wrapped\nline\nmore", "wrapped\nline"),
        ("word", "one two  three", "one two"),
        ("word", "one", None),
    ],
)
def test_the_last_place_of_a_kind(rank: Rank, text: str, before: str | None) -> None:
    place = FINDERS[rank](text, 1, len(text) - 1)
    assert (None if place is None else text[:place].rstrip()) == before


@pytest.mark.parametrize("rank", list(FINDERS))
def test_places_lie_within_the_bounds(rank: Rank) -> None:
    text = "One. Two.\n\nThree.\n- four five. Six.\n\n\n  Seven eight. " * 3
    for low in range(0, len(text), 3):
        for high in range(low, len(text), 7):
            place = FINDERS[rank](text, low, high)
            assert place is None or low <= place <= high


def test_sections() -> None:
    assert last_section([0, 5, 9], 1, 9) == 9
    assert last_section([0, 5, 9], 1, 8) == 5
    assert last_section([0, 5, 9], 6, 8) is None
    assert last_section([], 0, 8) is None


def test_the_first_sentence_and_word() -> None:
    text = "One two. Three four. Five"
    assert first_sentence(text, 0, 3, len(text)) == text.index("Three")
    assert first_sentence(text, 0, 10, len(text)) == text.index("Five")
    assert first_sentence(text, 0, 22, len(text)) is None
    assert first_word(text, 1, len(text)) == text.index("two")
    assert first_word(text, 4, len(text)) == 4
    assert first_word(text, 22, len(text)) == 22
