"""Slips of the keyboard: how a question looks that was typed in a hurry."""

from __future__ import annotations

import random
import re

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_LONG_WORD = re.compile(r"[^\W\d_]{4,}")
_WORDS_A_SLIP = 4


def misspell(text: str, rng: random.Random) -> str:
    """`text` with a slip in every fourth of its longer words, one at least: a letter beside the right one, two in the
    wrong order, one too few or one doubled. The first letter of a word is right, as it mostly is.

    A text without a word of four letters comes back as it is.
    """
    words = list(_LONG_WORD.finditer(text))
    if not words:
        return text
    chosen = sorted(rng.sample(words, -(-len(words) // _WORDS_A_SLIP)), key=lambda word: word.start())
    pieces, done = [], 0
    for word in chosen:
        pieces += [text[done : word.start()], _slip(word[0], rng)]
        done = word.end()
    return "".join([*pieces, text[done:]])


def _slip(word: str, rng: random.Random) -> str:
    place = rng.randrange(1, len(word) - 1)
    letter, following = word[place], word[place + 1]
    beside = _beside(letter)
    ways = [
        word[:place] + letter + word[place:],
        word[:place] + word[place + 1 :],
        word[:place] + following + letter + word[place + 2 :],
        *([word[:place] + rng.choice(beside) + word[place + 1 :]] if beside else []),
    ]
    return rng.choice([way for way in ways if way != word])


def _beside(letter: str) -> str:
    """The letters beside one on a keyboard; none for a letter that is not among the usual 26."""
    for row in _ROWS:
        place = row.find(letter.lower())
        if place >= 0:
            near = row[max(place - 1, 0) : place] + row[place + 1 : place + 2]
            return near.upper() if letter.isupper() else near
    return ""
