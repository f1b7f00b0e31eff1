"""Against sacrebleu on real and on odd texts (to 1e-9 of 0..1), and by hand."""

from __future__ import annotations

import random
import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import CHRF

from genai.metrics.chrf import chrf_counts, corpus_chrf

PARAGRAPHS = (Path(__file__).resolve().parents[2] / "LICENSE").read_text(encoding="ascii").split("\n\n")
ODD = ["", "a", "ab cd", "(hi), 'there'!", "Straße — über", "中文 字符", "x" * 50]


def corpus(num_references: int) -> tuple[list[str], list[list[str]]]:
    """Answers and their references: paragraphs with letters left out or put in capitals."""
    generator = random.Random(num_references)

    def changed(text: str) -> str:
        return "".join(generator.choice([letter, letter, letter, letter.upper(), ""]) for letter in text)

    texts = [*PARAGRAPHS[:40], *ODD]
    return [changed(text) for text in texts], [[changed(text) for _ in range(num_references)] for text in texts]


def total(answers: list[str], references: list[list[str]], word_order: int) -> np.ndarray:
    """(1, counts)."""
    counts = [
        chrf_counts(each, wanted, word_order=word_order) for each, wanted in zip(answers, references, strict=True)
    ]
    return np.sum(counts, axis=0, keepdims=True)


@pytest.mark.parametrize("word_order", [0, 2])
@pytest.mark.parametrize("num_references", [1, 3])
def test_corpora_score_as_with_sacrebleu(word_order: int, num_references: int) -> None:
    answers, references = corpus(num_references)
    streams = list(map(list, zip(*references, strict=True)))
    expected = CHRF(word_order=word_order).corpus_score(answers, streams).score / 100
    assert corpus_chrf(total(answers, references, word_order))[0] == pytest.approx(expected, abs=1e-9)
    assert 0.05 < expected < 0.95


@pytest.mark.parametrize("word_order", [0, 2])
def test_single_texts_score_as_with_sacrebleu(word_order: int) -> None:
    scorer = CHRF(word_order=word_order)
    for answer, references in zip(*corpus(2), strict=True):
        ours = corpus_chrf(total([answer], [references], word_order))[0]
        assert ours == pytest.approx(scorer.sentence_score(answer, references).score / 100, abs=1e-9)


@given(
    st.lists(st.tuples(*[st.text(alphabet=string.printable + "äß“”…中文", max_size=40)] * 2), min_size=1, max_size=4)
)
def test_any_texts_score_as_with_sacrebleu(pairs: list[tuple[str, str]]) -> None:
    answers, references = (list(texts) for texts in zip(*pairs, strict=True))
    expected = CHRF(word_order=2).corpus_score(answers, [references]).score / 100
    ours = corpus_chrf(total(answers, [[each] for each in references], 2))[0]
    assert ours == pytest.approx(expected, abs=1e-9)


def test_by_hand() -> None:
    # one order has matches: single characters, 2 of 3 and 2 of 2; of two characters none of 2 and none of 1
    counts = chrf_counts("acb", ["ab"])
    assert counts[:6] == (3, 2, 2, 2, 1, 0)
    precision, recall = (2 / 3 + 0) / 2, (1 + 0) / 2
    assert corpus_chrf(np.array([counts]))[0] == pytest.approx(5 * precision * recall / (4 * precision + recall))


def test_the_nearest_reference_counts() -> None:
    assert chrf_counts("hello world", ["goodbye", "hello word"]) == chrf_counts("hello world", ["hello word"])
