"""Against values by hand, and against Google's rouge-score on texts of ASCII (to 1e-9)."""

from __future__ import annotations

import random
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from genai.metrics.rouge import Overlap, longest_common_subsequence, rouge_l, rouge_n, words_of

LICENSE = Path(__file__).resolve().parents[2] / "LICENSE"
SCORER = RougeScorer(["rouge1", "rouge2", "rougeL"])


def compare(answer: str, reference: str) -> None:
    """Precision, recall and F1 of all three."""
    expected = SCORER.score(reference, answer)
    words = words_of(answer), words_of(reference)
    ours = {"rouge1": rouge_n(*words, 1), "rouge2": rouge_n(*words, 2), "rougeL": rouge_l(*words)}
    for name, overlap in ours.items():
        assert overlap.precision == pytest.approx(expected[name].precision, abs=1e-9)
        assert overlap.recall == pytest.approx(expected[name].recall, abs=1e-9)
        assert overlap.f1 == pytest.approx(expected[name].fmeasure, abs=1e-9)


def test_overlaps_by_hand() -> None:
    answer, reference = words_of("The police killed the gunman."), words_of("police kill the gunman")
    assert rouge_n(answer, reference, 1) == Overlap(precision=3 / 5, recall=3 / 4)
    assert rouge_n(answer, reference, 2) == Overlap(precision=1 / 4, recall=1 / 3)
    assert rouge_l(answer, reference) == Overlap(precision=3 / 5, recall=3 / 4)
    assert rouge_n(answer, reference, 1).f1 == pytest.approx(2 / 3)


def test_texts_without_words_have_nothing_in_common() -> None:
    for overlap in (rouge_n([], ["a"], 1), rouge_n(["a"], [], 1), rouge_n(["a"], ["a"], 2), rouge_l([], [])):
        assert overlap == Overlap(precision=0, recall=0)
        assert overlap.f1 == 0


def test_words_are_those_of_any_script() -> None:
    assert words_of("Ein Café_im Straßengraben, 3-4!") == ["ein", "café", "im", "straßengraben", "3", "4"]
    assert words_of("Мама мыла раму") == ["мама", "мыла", "раму"]


def test_real_texts_score_as_with_rouge_score() -> None:
    generator = random.Random(5)
    paragraphs = [text for text in LICENSE.read_text(encoding="ascii").split("\n\n") if len(text.split()) > 5]
    assert len(paragraphs) > 20
    for reference in paragraphs:
        words = [word for word in reference.split() if generator.random() > 0.3]
        half = len(words) // 2
        compare(" ".join([*words[half:], *words[:half]]), reference)
        compare(generator.choice(paragraphs), reference)


@given(*[st.lists(st.sampled_from("abcde"), max_size=70)] * 2)
def test_the_common_sequence_is_as_long_as_the_table_says(first: list[str], second: list[str]) -> None:
    row = [0] * (len(second) + 1)
    for word in first:
        before = list(row)
        for place, other in enumerate(second):
            row[place + 1] = before[place] + 1 if word == other else max(before[place + 1], row[place])
    assert longest_common_subsequence(first, second) == row[-1]


@given(*[st.text(alphabet=string.printable, max_size=60)] * 2)
def test_any_ascii_scores_as_with_rouge_score(answer: str, reference: str) -> None:
    compare(answer, reference)
