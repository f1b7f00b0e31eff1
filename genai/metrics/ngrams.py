"""Perplexity of n-gram language models over token ids: interpolated, modified Kneser-Ney smoothing.

    p(w | h) = max(c(h w) - D(c(h w)), 0) / sum_v c(h v)  +  gamma(h) p(w | h')

`h'` is `h` without its first token, and at the end of that chain every token of the vocabulary is equally likely. `c`
counts occurrences at the highest order; below it, how many different tokens stand before the n-gram. D is one of
three discounts for counts of 1, 2, and 3 or more, estimated from how many n-grams occur once to four times;
gamma(h) is the mass that they set free.

Source: Chen and Goodman 1998, "An empirical study of smoothing techniques for language modeling", TR-10-98, Harvard
University, sections 4.1.6 and 5.3 (modKN). Where the counts of counts give no discounts (a small vocabulary has
hardly any token that occurs once), the fixed ones of KenLM are taken: 0.5, 1 and 1.5.

Letters in names: R rows, S tokens a row, G different n-grams of one order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
_ROWS_AT_ONCE = 1024
_Ids = NDArray[np.int64]
_Tokens = NDArray[np.integer]


@dataclass(frozen=True, kw_only=True)
class NgramTable:
    """All n-grams of one order that occur, sorted. An n-gram is known by its place in here, its id."""

    keys_G: _Ids
    """Id of the first n - 1 tokens among the n-grams of the order below, times the vocabulary's size, plus the last
    token; sorted."""
    counts_G: NDArray[np.int32]
    """How often each occurs."""
    continuations_G: NDArray[np.int32]
    """How many different tokens stand before it; of the highest order, its counts."""


def count_ngrams(rows_RS: _Tokens, *, order: int, vocab_size: int) -> list[NgramTable]:
    """Count all n-grams up to an order, within rows.

    Takes about 110 bytes a token at order 5 (1.1 GB for 10 million), most of it while one order is sorted.

    Args:
        rows_RS: token ids, shape (rows, tokens a row).
        order: longest n-grams.
        vocab_size: ids are below it.

    Returns:
        one table an order, from 1 to `order`.

    Raises:
        ValueError: the rows are shorter than an n-gram, empty, or hold an id that is too large.
    """
    if rows_RS.ndim != 2 or rows_RS.shape[0] == 0 or rows_RS.shape[1] < order:
        raise ValueError(f"rows of shape {rows_RS.shape} hold no n-grams of order {order}")
    if int(rows_RS.max()) >= vocab_size or int(rows_RS.min()) < 0:
        raise ValueError(f"there are token ids that are not below {vocab_size}")
    tables: list[NgramTable] = []
    prefixes_RS = np.zeros(rows_RS.shape, dtype=np.int64)
    for n in range(1, order + 1):
        num_starts = rows_RS.shape[1] - n + 1
        keys = prefixes_RS[:, :num_starts] * vocab_size + rows_RS[:, n - 1 :]
        keys_G, first_G, ids, counts_G = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        del keys
        if tables:
            # The order below counts what stands before its n-grams: each of these is one of its n-grams, one longer.
            rows, starts = np.divmod(first_G, num_starts)
            suffixes_G = prefixes_RS[rows, starts + 1]
            below = tables[-1]
            continuations = np.bincount(suffixes_G, minlength=len(below.keys_G)).astype(np.int32)
            tables[-1] = NgramTable(keys_G=below.keys_G, counts_G=below.counts_G, continuations_G=continuations)
        counts_G = counts_G.astype(np.int32)
        tables.append(NgramTable(keys_G=keys_G, counts_G=counts_G, continuations_G=counts_G))
        prefixes_RS = ids.reshape(rows_RS.shape[0], num_starts)
    return tables


def discounts_of(counts_G: NDArray[np.integer]) -> tuple[float, float, float]:
    """The discounts for counts of 1, 2, and 3 or more (Chen and Goodman, equations 26 and 17).

    Args:
        counts_G: the count of each n-gram of an order.
    """
    n1, n2, n3, n4 = (int((counts_G == count).sum()) for count in (1, 2, 3, 4))
    if not (n1 and n2 and n3 and n4):
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    sound = all(0 < discount <= most for discount, most in zip(found, (1, 2, 3), strict=True))
    return found if sound else FALLBACK_DISCOUNTS


class KneserNey:
    """An n-gram model.

    Args:
        tables: as `count_ngrams` gave them, at least `order` of them.
        order: n; a model may be of a lower order than the tables.
        vocab_size: as given to `count_ngrams`.
    """

    def __init__(self, tables: Sequence[NgramTable], *, order: int, vocab_size: int) -> None:
        self.order = order
        self.vocab_size = vocab_size
        self._tables = list(tables[:order])
        self._levels = [
            _Level.of(
                table,
                table.counts_G if n == order else table.continuations_G,
                num_histories=1 if n == 1 else len(tables[n - 2].keys_G),
                vocab_size=vocab_size,
            )
            for n, table in enumerate(self._tables, 1)
        ]

    def probabilities(self, rows_RS: _Tokens) -> NDArray[np.float64]:
        """The probability of each token but the first of its row, given up to n - 1 tokens before it in the row.

        Args:
            rows_RS: token ids, shape (rows, tokens a row).

        Returns:
            shape (rows, tokens a row - 1).
        """
        unigram = self._levels[0]
        ids_RS = self._find(0, np.zeros(rows_RS.shape, dtype=np.int64), rows_RS)
        p_RS = unigram.interpolate(np.zeros_like(ids_RS), ids_RS, np.full(rows_RS.shape, 1 / self.vocab_size))
        for n in range(2, self.order + 1):
            if n > rows_RS.shape[1]:
                break
            histories = ids_RS[:, :-1]
            ids_RS = self._find(n - 1, histories, rows_RS[:, n - 1 :])
            p_RS[:, n - 1 :] = self._levels[n - 1].interpolate(histories, ids_RS, p_RS[:, n - 1 :])
        return p_RS[:, 1:]

    def perplexity(self, rows_RS: _Tokens) -> float:
        """exp of the mean negative log-probability of all tokens but the first of each row, in nats."""
        total = 0.0
        for start in range(0, len(rows_RS), _ROWS_AT_ONCE):
            total -= float(np.log(self.probabilities(rows_RS[start : start + _ROWS_AT_ONCE])).sum())
        return math.exp(total / (rows_RS.shape[0] * (rows_RS.shape[1] - 1)))

    def _find(self, level: int, histories: _Ids, tokens: _Tokens) -> _Ids:
        """The id of each n-gram, -1 where it never occurred."""
        keys_G = self._tables[level].keys_G
        wanted = histories * self.vocab_size + tokens
        places = np.minimum(np.searchsorted(keys_G, wanted), len(keys_G) - 1)
        known = (histories >= 0) & (keys_G[places] == wanted)
        ids: _Ids = np.where(known, places, -1)
        return ids


@dataclass(frozen=True, kw_only=True)
class _Level:
    """One order of a model."""

    counts_G: NDArray[np.int32]
    """Occurrences, or continuations, of each n-gram."""
    discounts: NDArray[np.float64]
    """For a count of 0, 1, 2, and 3 or more."""
    totals_H: NDArray[np.int64]
    """Sum of the counts behind each history."""
    gammas_H: NDArray[np.float64]
    """Mass that each history leaves to the order below."""

    @classmethod
    def of(cls, table: NgramTable, counts_G: NDArray[np.int32], *, num_histories: int, vocab_size: int) -> _Level:
        discounts = np.array([0.0, *discounts_of(counts_G)])
        histories_G = table.keys_G // vocab_size
        totals_H = np.bincount(histories_G, weights=counts_G, minlength=num_histories).astype(np.int64)
        freed_G = discounts[np.minimum(counts_G, 3)]
        freed_H = np.bincount(histories_G, weights=freed_G, minlength=num_histories)
        gammas_H = np.where(totals_H > 0, freed_H / np.maximum(totals_H, 1), 1.0)
        return cls(counts_G=counts_G, discounts=discounts, totals_H=totals_H, gammas_H=gammas_H)

    def interpolate(self, histories: _Ids, ids: _Ids, below: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities of this order from those of the order below; an unknown history leaves them as they are."""
        counts = np.where(ids >= 0, self.counts_G[np.maximum(ids, 0)], 0)
        known = np.maximum(histories, 0)
        totals = np.maximum(self.totals_H[known], 1)
        own = (counts - self.discounts[np.minimum(counts, 3)]) / totals
        mixed = own + self.gammas_H[known] * below
        return np.where((histories >= 0) & (self.totals_H[known] > 0), mixed, below)
