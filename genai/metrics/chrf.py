"""chrF and chrF++ of a corpus from counts of each of its texts, so that texts can be drawn again and again.

    chrF = (1 + beta^2) P R / (beta^2 P + R)

P and R are precision and recall of runs of 1 to 6 characters (chrF++: and of 1 and 2 words), averaged over the orders
that both texts are long enough for; beta is 2. Values lie between 0 and 1: sacrebleu prints 100 times as much, and is
otherwise followed to the letter.

Sources: Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation"; Popović 2017, "chrF++: words
helping character n-grams".

Letters in names: N texts, P counts of a text, R resamples, O orders.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

CHARACTER_ORDERS = 6
BETA = 2
_PUNCTUATION = frozenset(string.punctuation)
_Floats = NDArray[np.float64]


def chrf_counts(answer: str, references: Sequence[str], *, word_order: int = 0) -> tuple[float, ...]:
    """What chrF needs to know of one answer, against the reference that it is nearest to.

    Args:
        answer: a text.
        references: one at least.
        word_order: runs of up to so many words count too: 2 for chrF++.

    Returns:
        three counts an order, to be added up over answers: runs of the answer, of the reference, of both.
    """
    of_answer = _ngrams(answer, word_order)
    counts = [_overlap(of_answer, _ngrams(reference, word_order)) for reference in references]
    best = int(np.argmax(corpus_chrf(np.asarray(counts, dtype=np.float64))))
    return counts[best]


def corpus_chrf(counts_RP: _Floats) -> _Floats:
    """ChrF of corpora.

    Args:
        counts_RP: (R, P), the counts of each corpus: sums of what `chrf_counts` gave.

    Returns:
        (R,), between 0 and 1.
    """
    answer_RO, reference_RO, common_RO = counts_RP[:, 0::3], counts_RP[:, 1::3], counts_RP[:, 2::3]
    seen_RO = (answer_RO > 0) & (reference_RO > 0)
    orders_R = np.maximum(seen_RO.sum(axis=1), 1)
    precision_R = np.divide(common_RO, answer_RO, out=np.zeros_like(common_RO), where=seen_RO).sum(axis=1) / orders_R
    recall_R = np.divide(common_RO, reference_RO, out=np.zeros_like(common_RO), where=seen_RO).sum(axis=1) / orders_R
    weighted_R = BETA**2 * precision_R + recall_R
    scores_R: _Floats = np.divide(
        (1 + BETA**2) * precision_R * recall_R, weighted_R, out=np.zeros_like(weighted_R), where=weighted_R > 0
    )
    return scores_R


def _ngrams(text: str, word_order: int) -> list[Counter[str]]:
    characters = "".join(text.split())
    counts = [
        Counter(characters[start : start + n] for start in range(len(characters) - n + 1))
        for n in range(1, CHARACTER_ORDERS + 1)
    ]
    words = list(_words(text)) if word_order else []
    for n in range(1, word_order + 1):
        counts.append(Counter(" ".join(words[start : start + n]) for start in range(len(words) - n + 1)))
    return counts


def _words(text: str) -> Iterator[str]:
    """Words with one sign at the end, else at the beginning, taken off."""
    for word in text.split():
        if len(word) > 1 and word[-1] in _PUNCTUATION:
            yield from (word[:-1], word[-1])
        elif len(word) > 1 and word[0] in _PUNCTUATION:
            yield from (word[0], word[1:])
        else:
            yield word


def _overlap(answer: Sequence[Counter[str]], reference: Sequence[Counter[str]]) -> tuple[float, ...]:
    counts: list[float] = []
    for of_answer, of_reference in zip(answer, reference, strict=True):
        # runs of the answer do not count where the reference is too short to have any
        total = of_answer.total() if of_reference else 0
        counts += [total, of_reference.total(), (of_answer & of_reference).total()]
    return tuple(map(float, counts))
