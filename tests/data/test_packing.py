"""Best-fit packing: nothing lost, nothing over the edge, nothing starved, continued exactly."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genai.data.packing import BestFitPacker, count_rows

lengths_lists = st.lists(st.integers(1, 40), max_size=120)
pool_sizes = st.integers(1, 30)


def pack(lengths: list[int], pool_size: int, capacity: int = 40) -> list[list[int]]:
    packer = BestFitPacker(np.array(lengths, dtype=np.int64), capacity=capacity, pool_size=pool_size)
    return list(iter(packer.next_row, []))


def naive(lengths: list[int], pool_size: int, capacity: int = 40) -> list[list[int]]:
    """The documented rule, word for word, without any cleverness."""
    waiting, pool, rows = list(range(len(lengths))), list[int](), list[list[int]]()
    while waiting or pool:
        while waiting and len(pool) < pool_size:
            pool.append(waiting.pop(0))
        row = [pool.pop(0)]
        while fitting := [p for p in pool if lengths[p] <= capacity - sum(lengths[q] for q in row)]:
            longest = max(lengths[p] for p in fitting)
            row.append(next(p for p in fitting if lengths[p] == longest))
            pool.remove(row[-1])
        rows.append(row)
    return rows


@given(lengths=lengths_lists, pool_size=pool_sizes)
def test_the_rule(lengths: list[int], pool_size: int) -> None:
    assert pack(lengths, pool_size) == naive(lengths, pool_size)


@given(lengths=lengths_lists, pool_size=pool_sizes)
def test_every_example_once_and_no_row_too_long(lengths: list[int], pool_size: int) -> None:
    rows = pack(lengths, pool_size)
    assert sorted(position for row in rows for position in row) == list(range(len(lengths)))
    assert all(sum(lengths[position] for position in row) <= 40 for row in rows)
    assert len(rows) == count_rows(np.array(lengths, dtype=np.int64), capacity=40, pool_size=pool_size)


@given(lengths=lengths_lists, pool_size=pool_sizes)
def test_nothing_starves(lengths: list[int], pool_size: int) -> None:
    for number, row in enumerate(pack(lengths, pool_size)):
        assert min(row) == row[0]
        assert max(row) - number * 40 < pool_size + 40  # a row takes at most 40 examples into the pool


@given(lengths=lengths_lists, pool_size=pool_sizes, cut=st.integers(0, 60))
def test_continued_from_json(lengths: list[int], pool_size: int, cut: int) -> None:
    whole = pack(lengths, pool_size)
    array = np.array(lengths, dtype=np.int64)
    packer = BestFitPacker(array, capacity=40, pool_size=pool_size)
    rows = [packer.next_row() for _ in range(min(cut, len(whole)))]
    state = json.loads(json.dumps({"cursor": packer.cursor, "pool": packer.pool}))
    continued = BestFitPacker(array, capacity=40, pool_size=pool_size, **state)
    assert rows + list(iter(continued.next_row, [])) == whole


@pytest.mark.parametrize("length", [0, 41])
def test_lengths_that_cannot_be_packed(length: int) -> None:
    with pytest.raises(ValueError, match="1 to 40 tokens"):
        pack([3, length], 8)


@pytest.mark.parametrize("capacity", [1024, 2048])
@pytest.mark.parametrize(("median", "sigma"), [(150, 0.9), (300, 1.0)])
def test_useful_tokens_of_a_chat_like_distribution(capacity: int, median: int, sigma: float) -> None:
    lengths = np.random.default_rng(17).lognormal(np.log(median), sigma, 20_000).astype(np.int64).clip(8, capacity)
    rows = count_rows(lengths, capacity=capacity, pool_size=2048)
    assert lengths.sum() / (rows * capacity) >= 0.99


@settings(max_examples=1)
@given(st.just(None))
def test_pool_size_matters_little_for_the_state(_: None) -> None:
    lengths = np.random.default_rng(3).integers(1, 1024, 5000)
    packer = BestFitPacker(lengths, capacity=1024, pool_size=256)
    for _row in range(100):
        packer.next_row()
        assert len(packer.pool) <= 256


@pytest.mark.slow
def test_a_million_lengths_in_seconds() -> None:
    lengths = np.random.default_rng(0).lognormal(5.0, 0.9, 1_000_000).astype(np.int64).clip(8, 2048)
    started = time.process_time()
    rows = count_rows(lengths, capacity=2048, pool_size=2048)
    assert time.process_time() - started < 20
    assert lengths.sum() / (rows * 2048) >= 0.999
