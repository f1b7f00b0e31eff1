"""Texts of one side that nearly stand on the other one.

Texts are compared by their character 5-grams (letters and digits in small letters, all else a space), as in
`genai.data.near_duplicates`, but exactly: |A & B| / |A | B| of every pair that can reach the threshold. Sets of a
Jaccard similarity of t or more share at least c of the n - ceil(t n) + c rarest grams of each, for any c (prefix
filtering; Chaudhuri, Ganti, Kaushik 2006, "A primitive operator for similarity joins in data cleaning"; Wang, Li, Feng
2012, "Can we beat the prefix filtering?"). Rare is what few of the held-out texts have, so that a template which all
texts share makes no pair a candidate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np
from numpy.typing import NDArray

from genai.data.near_duplicates import five_grams, normalise

_BLOCK_GRAMS = 1 << 20
"""Grams of the texts that are looked up at once."""
_SHARED = 16
"""One shared rare gram is asked for, and one more for so many grams of the text."""


def most_alike(texts: Sequence[str], others: Sequence[str], *, at_least: float) -> dict[int, tuple[int, float]]:
    """The most similar of `others` for each of `texts` that is as similar to any as `at_least`.

    Args:
        texts: what is looked at; 100,000 of some 500 characters take about half a minute.
        others: what they are compared with.
        at_least: Jaccard similarity of character 5-grams, from 0.1; 1 finds only equal texts, whatever their case and
            punctuation.

    Returns:
        index in `texts` -> index in `others` (the first of the most similar) and the similarity.
    """
    first: dict[str, int] = {}
    for index, text in enumerate(others):
        first.setdefault(_comparable(text), index)
    indices_of: dict[str, list[int]] = {}
    for index, text in enumerate(texts):
        indices_of.setdefault(_comparable(text), []).append(index)
    found = {text: (first[text], 1.0) for text in indices_of if text in first}
    if at_least < 1:
        distinct = [text for text in indices_of if text not in first]
        places = list(first.values())
        for index, other, similarity in _Held(list(first), at_least).alike(distinct):
            known = found.get(distinct[index])
            if known is None or (similarity, -places[other]) > (known[1], -known[0]):
                found[distinct[index]] = (places[other], similarity)
    return {index: found[text] for text, indices in indices_of.items() if text in found for index in indices}


def _comparable(text: str) -> str:
    """A text of signs alone has nothing but them to be compared by."""
    return normalise(text) or text.strip()


class _Held:
    """The rarest grams of some texts, to look up who shares several.

    Args:
        texts: distinct, normalised.
        at_least: the similarity that is asked for.
    """

    def __init__(self, texts: Sequence[str], at_least: float) -> None:
        self._at_least = at_least
        self._grams = [five_grams(text) for text in texts]
        self._sizes = np.array([len(grams) for grams in self._grams], dtype=np.int64)
        flat = np.concatenate([np.zeros(0, dtype=np.uint64), *self._grams])
        self._vocabulary, places, self._counts = np.unique(flat, return_inverse=True, return_counts=True)
        ranks = _ranks(flat, self._counts[places])
        ends = np.append(0, np.cumsum(self._sizes))
        rare = [start + self._rarest(ranks[start:end]) for start, end in pairwise(ends.tolist())]
        rare_places = places[np.concatenate([np.zeros(0, dtype=np.int64), *rare])]
        owners = np.repeat(np.arange(len(rare)), [len(each) for each in rare])
        # The owners of gram number g are owners[starts[g]:starts[g + 1]].
        self._owners = owners[np.argsort(rare_places, kind="stable")]
        self._starts = np.append(0, np.cumsum(np.bincount(rare_places, minlength=len(self._vocabulary))))

    def alike(self, texts: Sequence[str]) -> Iterator[tuple[int, int, float]]:
        """(index of a text, index of a held one, similarity) of all pairs that are similar enough."""
        start = 0
        while start < len(texts) and len(self._grams):
            block: list[NDArray[np.uint64]] = []
            size = 0
            while start + len(block) < len(texts) and size < _BLOCK_GRAMS:
                block.append(five_grams(texts[start + len(block)]))
                size += len(block[-1])
            for index, others in enumerate(self._candidates(block)):
                for other in others.tolist():
                    similarity = _jaccard(block[index], self._grams[other])
                    if similarity >= self._at_least:
                        yield start + index, other, similarity
            start += len(block)

    def _candidates(self, block: Sequence[NDArray[np.uint64]]) -> Iterator[NDArray[np.int64]]:
        """For each text, the held ones that share enough rare grams with it."""
        flat = np.concatenate(block)
        places = np.minimum(np.searchsorted(self._vocabulary, flat), len(self._vocabulary) - 1)
        known = self._vocabulary[places] == flat
        ranks = _ranks(flat, np.where(known, self._counts[places], 0))
        wanted = _num_shared(self._sizes)
        end = 0
        for grams in block:
            start, end = end, end + len(grams)
            rare = start + self._rarest(ranks[start:end])
            numbers = places[rare[known[rare]]]
            begins, lengths = self._starts[numbers], self._starts[numbers + 1] - self._starts[numbers]
            within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            shared = np.bincount(self._owners[np.repeat(begins, lengths) + within], minlength=len(self._grams))
            found = np.flatnonzero(shared >= np.minimum(wanted, _num_shared(len(grams))))
            sizes = self._sizes[found]
            yield found[np.minimum(sizes, len(grams)) >= self._at_least * np.maximum(sizes, len(grams))]

    def _rarest(self, ranks: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Places of so many of a text's rarest grams that similar texts must share some of them."""
        num = len(ranks) - math.ceil(self._at_least * len(ranks) - 1e-9) + _num_shared(len(ranks))
        return np.arange(len(ranks)) if num >= len(ranks) else np.argpartition(ranks, num - 1)[:num]


@overload
def _num_shared(size: int) -> int: ...


@overload
def _num_shared(size: NDArray[np.int64]) -> NDArray[np.int64]: ...


def _num_shared(size: int | NDArray[np.int64]) -> int | NDArray[np.int64]:
    """How many rare grams a text of so many grams must share."""
    return 1 + size // _SHARED


def _ranks(grams: NDArray[np.uint64], counts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The order of grams, the same for all texts: how many held texts have it, then its hash."""
    rarity = np.minimum(counts, 0xFFFF).astype(np.uint64)
    return rarity << np.uint64(48) | grams >> np.uint64(16)


def _jaccard(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> float:
    both = np.concatenate([left, right])
    both.sort()
    shared = int((both[1:] == both[:-1]).sum())
    return shared / (len(both) - shared)
