from __future__ import annotations

from itertools import pairwise

import pytest

from genai.data.chunking.sentences import sentence_ends


def _sentences(text: str) -> list[str]:
    places = [0, *sentence_ends(text, 1, len(text) - 1), len(text)]
    parts = [text[start:end].strip() for start, end in pairwise(places)]
    return [part for part in parts if part]


@pytest.mark.parametrize(
    "text",
    [
        "One.|Two!|Three?|Four…|Five",
        "Dr. Smith met Mrs. Jones at 5 p.m. yesterday.|They left.",
        "It costs approx. 5 m, i.e. more than e.g. J. R. Tolkien paid.|Yes.",
        '"Stop!" he said.|"Why?" she asked.|He left.',
        'He said "No."|She said (quietly.)|Good.',
        "Version 3.11 is out.|See www.example.com for more.",
        "See Fig. 3, Sec. 4 and No. 5.|Then stop.",
        "Well... maybe.|No!",
        "Das ist z. B. gut, bzw. besser.|Es kostet ca. 5 EUR inkl. Porto.",
        "Det är t.ex. bra, bl.a. därför.|Ja.",
        "Title|Text begins here.|More",
        "A list:|- one|- two|* three",
        "1. First of all|2. Second",
        "これは文です。|次の文！|最後？",  # noqa: RUF001
        "Ну вот. это одно.|Другое.",  # noqa: RUF001
        "Only one",
    ],
)
def test_sentences(text: str) -> None:
    expected = text.split("|")
    separators = {"Title": "\n\n", "A list:": "\n", "- one": "\n", "- two": "\n", "1. First of all": "\n"}
    wide = text.startswith("これ")
    joined = "".join(part + separators.get(part, "" if wide else " ") for part in expected)
    assert _sentences(joined) == expected


def test_places_are_in_order_and_within_the_bounds() -> None:
    text = "One. Two. Three.\n\nFour. Five."
    places = list(sentence_ends(text, 0, len(text)))
    assert places == sorted(places)
    assert list(sentence_ends(text, 4, 9)) == [4, 9]
    assert list(sentence_ends(text, 5, 8)) == []
