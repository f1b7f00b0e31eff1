"""How near an answer is to a reference, as words in any order and as a whole.

Source: Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text", section 6.1 (exact match
and F1 of words, both after case, punctuation and articles have been taken out), and the evaluation script of SQuAD 2.0
for texts without any words. Beside it: punctuation of all scripts counts as such, not only that of ASCII, and a text
that consists of articles keeps them ("A" is the answer to many questions).
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.IGNORECASE)
_ASCII_PUNCTUATION = frozenset(string.punctuation)


def normalise(text: str, *, ignore_case: bool = True, ignore_punctuation: bool = True) -> str:
    """A text without what makes no difference; runs of white space are one blank, and characters are composed (NFC).

    Args:
        text: any.
        ignore_case: capital letters become small ones.
        ignore_punctuation: punctuation and the articles of English are left out.
    """
    text = unicodedata.normalize("NFC", text)
    if ignore_case:
        text = text.lower()
    if ignore_punctuation:
        text = "".join(character for character in text if not _is_punctuation(character))
        without = _ARTICLES.sub(" ", text)
        text = without if without.strip() else text
    return " ".join(text.split())


def token_f1(answer: str, reference: str) -> float:
    """The harmonic mean of precision and recall of words, each as often as it occurs; texts as `normalise` leaves them.

    1 where both have no words, 0 where one of them has none.
    """
    answer_words, reference_words = answer.split(), reference.split()
    if not answer_words or not reference_words:
        return float(answer_words == reference_words)
    common = (Counter(answer_words) & Counter(reference_words)).total()
    if not common:
        return 0.0
    precision, recall = common / len(answer_words), common / len(reference_words)
    return 2 * precision * recall / (precision + recall)


def _is_punctuation(character: str) -> bool:
    if character.isascii():
        return character in _ASCII_PUNCTUATION
    return unicodedata.category(character).startswith("P")
