"""Chunks against all ways to cut, and against what they are for."""

import itertools

import numpy as np
import pytest

from genai.embedding.tuning.chunks import cut


def cost(lengths: list[int], chunks: list[list[int]], overhead: int) -> int:
    return sum(max(lengths[row] for row in chunk) * len(chunk) + overhead for chunk in chunks)


@pytest.mark.parametrize("max_rows", [None, 3])
def test_the_cheapest_of_all_ways_to_cut(max_rows: int | None) -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        lengths = random.integers(1, 60, 9).tolist()
        order = sorted(range(9), key=lambda row: -lengths[row])
        ways = []
        for marks in itertools.product((False, True), repeat=8):
            ends = [0, *(place + 1 for place, mark in enumerate(marks) if mark), 9]
            chunks = [order[start:end] for start, end in itertools.pairwise(ends)]
            if max_rows is None or max(map(len, chunks)) <= max_rows:
                ways.append(cost(lengths, chunks, 20))
        found = [chunk.tolist() for chunk in cut(lengths, max_rows=max_rows, overhead_tokens=20)]
        assert cost(lengths, found, 20) == min(ways)
        assert max_rows is None or max(map(len, found)) <= max_rows


def test_every_text_once_and_the_longest_first() -> None:
    lengths = np.random.default_rng(1).integers(1, 300, 200).tolist()
    chunks = cut(lengths)
    assert sorted(np.concatenate(chunks).tolist()) == list(range(200))
    longest = [max(lengths[row] for row in chunk) for chunk in chunks]
    assert longest == sorted(longest, reverse=True)
    computed = sum(len(chunk) * length for chunk, length in zip(chunks, longest, strict=True))
    assert len(chunks) < 40
    assert sum(lengths) / computed > 0.9  # one chunk: about 0.5


def test_equal_lengths_are_one_chunk() -> None:
    assert [chunk.tolist() for chunk in cut([7] * 50)] == [list(range(50))]
    assert [len(chunk) for chunk in cut([7] * 50, max_rows=20)].count(20) == 2
    assert cut([5]) == (np.array([0]),)
    assert cut([]) == ()
