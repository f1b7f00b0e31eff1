"""Against the definition written down with dictionaries, and against values computed by hand."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from numpy.typing import NDArray

from genai.metrics.ngrams import FALLBACK_DISCOUNTS, KneserNey, count_ngrams, discounts_of

Gram = tuple[int, ...]


class ByDefinition:
    """Interpolated modified Kneser-Ney, word for word as Chen and Goodman write it."""

    def __init__(self, rows: list[list[int]], order: int, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.counts: list[Counter[Gram]] = []
        for n in range(1, order + 1):
            if n == order:
                grams = [tuple(row[i : i + n]) for row in rows for i in range(len(row) - n + 1)]
                self.counts.append(Counter(grams))
            else:
                before = defaultdict(set)
                for row in rows:
                    for i in range(1, len(row) - n + 1):
                        before[tuple(row[i : i + n])].add(row[i - 1])
                self.counts.append(Counter({gram: len(words) for gram, words in before.items()}))
        self.discounts = [self._discounts(list(counts.values())) for counts in self.counts]

    @staticmethod
    def _discounts(values: list[int]) -> tuple[float, float, float]:
        n1, n2, n3, n4 = (values.count(k) for k in (1, 2, 3, 4))
        if 0 in (n1, n2, n3, n4):
            return FALLBACK_DISCOUNTS
        y = n1 / (n1 + 2 * n2)
        found = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
        return found if all(0 < d <= k for d, k in zip(found, (1, 2, 3), strict=True)) else FALLBACK_DISCOUNTS

    def p(self, word: int, history: Gram) -> float:
        below = self.p(word, history[1:]) if history else 1 / self.vocab_size
        counts, discounts = self.counts[len(history)], self.discounts[len(history)]
        following = {gram[-1]: count for gram, count in counts.items() if gram[:-1] == history}
        total = sum(following.values())
        if not total:
            return below
        count = following.get(word, 0)
        discount = 0.0 if count == 0 else discounts[min(count, 3) - 1]
        freed = sum(discounts[min(c, 3) - 1] for c in following.values())
        return (count - discount) / total + freed / total * below


def make_rows(seed: int, shape: tuple[int, int], vocab_size: int) -> NDArray[np.int64]:
    """Tokens of Zipf's kind, each depending on the one before."""
    generator = np.random.default_rng(seed)
    steps = generator.zipf(1.5, shape) - 1
    return np.cumsum(np.minimum(steps, 3), axis=1) % vocab_size


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_probabilities_are_those_of_the_definition(order: int, seed: int) -> None:
    vocab_size = 11
    train, held_out = make_rows(seed, (12, 30), vocab_size), make_rows(seed + 100, (4, 9), vocab_size)
    held_out[0, 4] = vocab_size - 1
    train[train == vocab_size - 1] = 0  # one token that was never seen
    model = KneserNey(count_ngrams(train, order=5, vocab_size=vocab_size), order=order, vocab_size=vocab_size)
    reference = ByDefinition(train.tolist(), order, vocab_size)
    expected = [
        [reference.p(row[t], tuple(row[max(0, t - order + 1) : t])) for t in range(1, len(row))]
        for row in held_out.tolist()
    ]
    np.testing.assert_allclose(model.probabilities(held_out), expected, rtol=1e-12)
    perplexity = math.exp(-np.log(expected).mean())
    assert model.perplexity(held_out) == pytest.approx(perplexity, rel=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_after_any_history_sum_to_one(order: int) -> None:
    vocab_size = 5
    train = make_rows(3, (6, 12), vocab_size - 1)
    model = KneserNey(count_ngrams(train, order=3, vocab_size=vocab_size), order=order, vocab_size=vocab_size)
    for history in itertools.product(range(vocab_size), repeat=max(order - 1, 1)):
        rows = np.array([[*history, word] for word in range(vocab_size)])
        assert model.probabilities(rows)[:, -1].sum() == pytest.approx(1, abs=1e-12)


def test_a_bigram_by_hand() -> None:
    """Training row 0 1 0 1 0 2; three tokens; too little for estimated discounts, so that they are 0.5, 1 and 1.5.

    Bigrams: 01 twice, 10 twice, 02 once. Continuations: 0 after {1}: 1, 1 after {0}: 1, 2 after {0}: 1.
    Unigram: each (1 - 0.5) / 3 + (3 * 0.5) / 3 * 1/3 = 1/3. After 0 there are 3 bigrams: p(1|0) = (2 - 1) / 3 +
    (1 + 0.5) / 3 * 1/3 = 1/2, p(2|0) = 0.5 / 3 + 1/6 = 1/3, p(0|0) = 1/6. After 2 nothing: p(.|2) = 1/3.
    """
    model = KneserNey(count_ngrams(np.array([[0, 1, 0, 1, 0, 2]]), order=2, vocab_size=3), order=2, vocab_size=3)
    found = model.probabilities(np.array([[0, 1], [0, 2], [0, 0], [2, 0]]))
    np.testing.assert_allclose(found[:, 0], [1 / 2, 1 / 3, 1 / 6, 1 / 3])
    assert model.perplexity(np.array([[0, 1], [0, 2]])) == pytest.approx(math.sqrt(6))


def test_discounts_by_hand() -> None:
    """n1..n4 = 8, 4, 2, 1: Y = 8 / 16, D1 = 1 - 2/2 * 4/8, D2 = 2 - 3/2 * 2/4, D3 = 3 - 4/2 * 1/2."""
    counts = np.repeat([1, 2, 3, 4, 9], [8, 4, 2, 1, 5])
    assert discounts_of(counts) == pytest.approx((0.5, 1.25, 2.0))
    assert discounts_of(np.array([1, 2, 3])) == FALLBACK_DISCOUNTS


def test_counts_stay_within_rows() -> None:
    one, two = count_ngrams(np.array([[0, 1], [0, 1], [1, 0]]), order=2, vocab_size=2)
    assert one.counts_G.tolist() == [3, 3]
    assert one.continuations_G.tolist() == [1, 1]
    assert two.keys_G.tolist() == [1, 2]
    assert two.counts_G.tolist() == [2, 1]


def test_small_types_do_not_overflow() -> None:
    rows = np.array([[65535, 65534, 65535, 65534]], dtype=np.uint16)
    tables = count_ngrams(rows, order=3, vocab_size=65536)
    assert tables[1].counts_G.tolist() == [1, 2]
    assert 0 < KneserNey(tables, order=3, vocab_size=65536).perplexity(rows) < 65536


def test_more_context_helps_on_text_with_structure() -> None:
    vocab_size = 50
    train, held_out = make_rows(7, (400, 32), vocab_size), make_rows(8, (20, 32), vocab_size)
    tables = count_ngrams(train, order=3, vocab_size=vocab_size)
    one, two = (KneserNey(tables, order=n, vocab_size=vocab_size).perplexity(held_out) for n in (1, 2))
    assert two < one / 4


@pytest.mark.parametrize(
    ("rows", "order"), [(np.zeros((0, 4), int), 2), (np.zeros((2, 2), int), 3), (np.array([[0, 9]]), 1)]
)
def test_rows_that_cannot_be_counted(rows: NDArray[np.int64], order: int) -> None:
    with pytest.raises(ValueError, match=r"no n-grams|not below"):
        count_ngrams(rows, order=order, vocab_size=9)
