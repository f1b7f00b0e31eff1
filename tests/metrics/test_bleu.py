"""Against sacrebleu on real and on odd texts (to 1e-9 of 0..1), and by hand."""

from __future__ import annotations

import math
import random
import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from genai.metrics.bleu import NUM_COUNTS, TOKENIZERS, Tokenizer, bleu_counts, corpus_bleu

PARAGRAPHS = (Path(__file__).resolve().parents[2] / "LICENSE").read_text(encoding="ascii").split("\n\n")
ODD = [
    "",
    " ",
    "Hello",
    "a b c d",
    "3.5-4 kg, ca. 2%",
    "&quot;Tom &amp; Jerry&quot; &lt;b&gt;",
    "über-\nall",
    "(x)[y]{z}~`",
]


def corpus(num_references: int) -> tuple[list[str], list[list[str]]]:
    """Answers and their references: paragraphs with words left out, put in capitals, doubled."""
    generator = random.Random(num_references)

    def changed(text: str) -> str:
        return " ".join(
            generator.choice([word, word, word, word.upper(), "", f"{word}-3.5"]) for word in text.split(" ")
        )

    texts = [*PARAGRAPHS, *ODD]
    return [changed(text) for text in texts], [[changed(text) for _ in range(num_references)] for text in texts]


def counts_of(answers: list[str], references: list[list[str]], tokenize: Tokenizer = "13a") -> np.ndarray:
    """(texts, counts)."""
    words = TOKENIZERS[tokenize]
    return np.array(
        [
            bleu_counts(words(answer), [words(each) for each in wanted])
            for answer, wanted in zip(answers, references, strict=True)
        ]
    )


@pytest.mark.parametrize("tokenize", ["13a", "char", "none"])
@pytest.mark.parametrize("num_references", [1, 3])
def test_corpora_score_as_with_sacrebleu(tokenize: Tokenizer, num_references: int) -> None:
    answers, references = corpus(num_references)
    expected = BLEU(tokenize=tokenize, force=True).corpus_score(answers, list(map(list, zip(*references, strict=True))))
    counts_NP = counts_of(answers, references, tokenize)
    assert corpus_bleu(counts_NP.sum(axis=0, keepdims=True))[0] == pytest.approx(expected.score / 100, abs=1e-9)
    assert 0.05 < expected.score / 100 < 0.95


def test_single_texts_score_as_with_sacrebleu() -> None:
    answers, references = corpus(2)
    ours = corpus_bleu(counts_of(answers, references), effective_order=True)
    scorer = BLEU(effective_order=True)
    for answer, wanted, value in zip(answers, references, ours, strict=True):
        assert value == pytest.approx(scorer.sentence_score(answer, wanted).score / 100, abs=1e-9)


def test_resamples_score_as_their_texts_with_sacrebleu() -> None:
    answers, references = corpus(1)
    generator = np.random.default_rng(1)
    drawn_RN = generator.integers(len(answers), size=(5, len(answers)))
    weights_RN = np.stack([np.bincount(drawn, minlength=len(answers)) for drawn in drawn_RN]).astype(np.float64)
    ours = corpus_bleu(weights_RN @ counts_of(answers, references))
    for drawn, value in zip(drawn_RN, ours, strict=True):
        texts = [answers[number] for number in drawn], [[references[number][0] for number in drawn]]
        assert value == pytest.approx(BLEU().corpus_score(*texts).score / 100, abs=1e-9)


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("", "a b"), ("x", "y"), ("a", "a"), ("a b", "a c"), ("a b c d e", "e d c b a"), ("a b c x", "a b c y z")],
)
def test_short_corpora_are_smoothed_as_in_sacrebleu(answer: str, reference: str) -> None:
    ours = corpus_bleu(counts_of([answer], [[reference]]))[0]
    assert ours == pytest.approx(BLEU(force=True).corpus_score([answer], [[reference]]).score / 100, abs=1e-9)


@given(
    st.lists(st.tuples(*[st.text(alphabet=string.printable + "äß“”…中文", max_size=40)] * 2), min_size=1, max_size=4)
)
def test_any_texts_score_as_with_sacrebleu(pairs: list[tuple[str, str]]) -> None:
    answers, references = (list(texts) for texts in zip(*pairs, strict=True))
    expected = BLEU(force=True).corpus_score(answers, [references]).score / 100
    counts_NP = counts_of(answers, [[reference] for reference in references])
    assert corpus_bleu(counts_NP.sum(axis=0, keepdims=True))[0] == pytest.approx(expected, abs=1e-9)


def test_by_hand() -> None:
    counts = bleu_counts(["the", "cat", "sat", "on", "the", "mat"], [["the", "cat", "is", "on", "the", "mat"]])
    assert counts == (6, 6, 5, 3, 1, 0, 6, 5, 4, 3)
    assert len(counts) == NUM_COUNTS
    expected = math.exp(sum(map(math.log, (5 / 6, 3 / 5, 1 / 4, 1 / 2 / 3))) / 4)
    assert corpus_bleu(np.array([counts], dtype=float))[0] == pytest.approx(expected)


def test_the_nearest_reference_gives_the_length_the_shorter_one_of_two() -> None:
    assert bleu_counts(list("abcd"), [list("abcdef"), list("ab"), list("a")])[1] == 2
