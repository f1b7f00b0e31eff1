"""ROUGE: which words, pairs of words, or sequences of words an answer has in common with a reference.

Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", sections 2 and 3.1, without stemming and
with F1 in place of the paper's weighted F, as Google's rouge-score counts. Where that knows the letters and digits of
ASCII only, words here are made of those of any script; for texts of ASCII both are the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """What two texts have in common."""

    precision: float
    """Share of the answer."""
    recall: float
    """Share of the reference."""

    @property
    def f1(self) -> float:
        """Their harmonic mean."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def words_of(text: str) -> list[str]:
    """The words of a text in small letters: runs of letters and digits."""
    return _WORD.findall(text.lower())


def rouge_n(answer: Sequence[str], reference: Sequence[str], n: int) -> Overlap:
    """ROUGE-N: the runs of n words that both have, each as often as it occurs.

    Args:
        answer, reference: words, as `words_of` gives them.
        n: 1 or more.
    """
    of_answer, of_reference = _ngrams(answer, n), _ngrams(reference, n)
    common = (of_answer & of_reference).total()
    return Overlap(
        precision=common / max(of_answer.total(), 1),
        recall=common / max(of_reference.total(), 1),
    )


def rouge_l(answer: Sequence[str], reference: Sequence[str]) -> Overlap:
    """ROUGE-L of texts as wholes: the longest sequence of words that both have in this order, gaps allowed.

    Args:
        answer, reference: words, as `words_of` gives them.
    """
    common = longest_common_subsequence(answer, reference)
    return Overlap(precision=common / max(len(answer), 1), recall=common / max(len(reference), 1))


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Its length, by one addition of long integers a word of `second`.

    Source: Hyyrö 2004, "Bit-parallel LCS-length computation revisited", AWOCA. A zero bit i of `row` says that the
    length grows with word i of `first`.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    every = (1 << len(first)) - 1
    row = every
    for word in second:
        matches = row & places.get(word, 0)
        row = (row + matches | row - matches) & every
    return len(first) - row.bit_count()


def _ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))
