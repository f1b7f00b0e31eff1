"""BLEU of a corpus from counts of each of its texts, so that texts can be drawn again and again.

    BLEU = BP * exp(mean over n = 1..4 of ln p_n),   BP = min(1, exp(1 - r / c))

p_n is the share of the answers' runs of n words that a reference has, r the length of the references nearest to the
answers', c that of the answers. A p_n of zero is replaced by 1 / (2^k total_n), k counting such orders (smoothing
"exp"). Values lie between 0 and 1: sacrebleu prints 100 times as much, and is otherwise followed to the letter.

Sources: Papineni et al. 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation"; Post 2018, "A Call for
Clarity in Reporting BLEU Scores"; Chen and Cherry 2014, "A Systematic Comparison of Smoothing Techniques for
Sentence-Level BLEU" (method 3); NIST's mteval-v13a.pl for the words.

Letters in names: N texts, P counts of a text, R resamples, O orders.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

MAX_ORDER = 4
NUM_COUNTS = 2 + 2 * MAX_ORDER
"""Length of the answer, length of the nearest reference, runs that are right and all runs, of each order."""
Tokenizer = Literal["13a", "char", "none"]
_Floats = NDArray[np.float64]

_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_STEPS = (
    (re.compile(r"([{-~\[-` -&(-+:-@/])"), r" \1 "),  # signs, but for those that may stand in a word or a number
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


def _words_13a(text: str) -> list[str]:
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    text = f" {text} "
    for pattern, replacement in _STEPS:
        text = pattern.sub(replacement, text)
    return text.split()


TOKENIZERS: dict[Tokenizer, Callable[[str], list[str]]] = {
    "13a": _words_13a,
    "char": lambda text: list("".join(text.split())),
    "none": str.split,
}
"""13a: words and signs of Western languages. char: every character, for Chinese and Japanese. none: as blanks say."""


def bleu_counts(answer: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, ...]:
    """What BLEU needs to know of one answer.

    Args:
        answer: its words.
        references: the words of each reference, one at least.

    Returns:
        `NUM_COUNTS` counts, to be added up over answers.
    """
    wanted: Counter[tuple[str, ...]] = Counter()
    for reference in references:
        wanted |= _ngrams(reference)
    right, total = [0] * MAX_ORDER, [0] * MAX_ORDER
    for ngram, count in _ngrams(answer).items():
        total[len(ngram) - 1] += count
        right[len(ngram) - 1] += min(count, wanted[ngram])
    nearest = min((len(reference) for reference in references), key=lambda length: (abs(length - len(answer)), length))
    return tuple(map(float, (len(answer), nearest, *right, *total)))


def corpus_bleu(counts_RP: _Floats, *, effective_order: bool = False) -> _Floats:
    """BLEU of corpora.

    Args:
        counts_RP: (R, P), the counts of each corpus: sums of what `bleu_counts` gave.
        effective_order: leave orders out for which the answers are too short; for single texts.

    Returns:
        (R,), between 0 and 1; 0 where nothing is right.
    """
    answer_R, reference_R = counts_RP[:, 0], counts_RP[:, 1]
    right_RO, total_RO = counts_RP[:, 2 : 2 + MAX_ORDER], counts_RP[:, 2 + MAX_ORDER :]
    zeros_RO = np.cumsum((right_RO == 0) & (total_RO > 0), axis=1)
    smoothed_RO = np.where(right_RO > 0, right_RO, 0.5**zeros_RO)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs_RO = np.where(total_RO > 0, np.log(smoothed_RO / total_RO), 0.0 if effective_order else -np.inf)
        brevity_R = np.where(answer_R < reference_R, np.exp(1 - reference_R / answer_R), 1.0)
    orders_R = np.maximum((total_RO > 0).sum(axis=1), 1) if effective_order else MAX_ORDER
    scores_R: _Floats = np.where(right_RO.any(axis=1), brevity_R * np.exp(logs_RO.sum(axis=1) / orders_R), 0.0)
    return scores_R


def _ngrams(words: Sequence[str]) -> Counter[tuple[str, ...]]:
    return Counter(
        tuple(words[start : start + n]) for n in range(1, MAX_ORDER + 1) for start in range(len(words) - n + 1)
    )
