"""Against values by hand and against SQuAD's evaluation script, in the words of that script."""

from __future__ import annotations

import collections
import random
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.metrics.text import normalise, token_f1


def squad_normalise(text: str) -> str:
    """As evaluate-v2.0.py of SQuAD does it."""
    text = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def squad_f1(answer: str, reference: str) -> float:
    """As evaluate-v2.0.py of SQuAD does it."""
    reference_words, answer_words = squad_normalise(reference).split(), squad_normalise(answer).split()
    num_same = sum((collections.Counter(reference_words) & collections.Counter(answer_words)).values())
    if len(reference_words) == 0 or len(answer_words) == 0:
        return float(reference_words == answer_words)
    if num_same == 0:
        return 0.0
    precision, recall = num_same / len(answer_words), num_same / len(reference_words)
    return (2 * precision * recall) / (precision + recall)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  The   Cat,\nsat. ", "cat sat"),
        ("A", "a"),
        ("the a", "the a"),
        ("“Straße” — 5 €!", "straße 5 €"),
        ("cafe\u0301", "caf\u00e9"),
        ("don't", "dont"),
        ("हिन्दी।", "हिन्दी"),
        ("...", ""),
        ("", ""),
    ],
)
def test_what_makes_no_difference_is_left_out(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_each_kind_of_difference_can_be_kept() -> None:
    assert normalise("The Cat!", ignore_case=False) == "Cat"
    assert normalise("The Cat!", ignore_punctuation=False) == "the cat!"
    assert normalise(" The\tCat! ", ignore_case=False, ignore_punctuation=False) == "The Cat!"


def test_f1_of_words_by_hand() -> None:
    assert token_f1("cat sat on mat", "cat sat") == pytest.approx(2 * 0.5 * 1 / 1.5)
    assert token_f1("cat cat", "cat") == pytest.approx(2 / 3)  # a word counts as often as the other text has it
    assert token_f1("dog", "cat") == 0
    assert token_f1("", "") == 1
    assert token_f1("", "cat") == token_f1("cat", "") == 0


def test_f1_is_that_of_squad() -> None:
    generator = random.Random(3)
    words = ["the", "Cat", "sat,", "on", "an", "old", "Mat.", "(twice)", "A.", "4,000", "it's"]
    for _ in range(500):
        answer, reference = (" ".join(generator.choices(words, k=generator.randint(1, 9))) for _ in range(2))
        if squad_normalise(answer) and squad_normalise(reference):
            ours = token_f1(normalise(answer), normalise(reference))
            assert ours == pytest.approx(squad_f1(answer, reference), abs=1e-12)


@given(st.text(alphabet=string.printable))
def test_ascii_is_normalised_as_squad_does_unless_nothing_is_left(text: str) -> None:
    expected = squad_normalise(text)
    assert normalise(text) == (expected or " ".join(re.sub(r"[^\w\s]|_", "", text.lower()).split()))
