"""Disjoint sets against a plain search through the graph of joins."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from genai.data.disjoint_sets import DisjointSets


@given(joins=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=20))
def test_roots_are_the_smallest_numbers_within_reach(joins: list[tuple[int, int]]) -> None:
    sets = DisjointSets(12)
    reach = {n: {n} for n in range(12)}
    for left, right in joins:
        sets.join(left, right)
        both = reach[left] | reach[right]
        for n in both:
            reach[n] = both
    assert [sets.root(n) for n in range(12)] == [min(reach[n]) for n in range(12)]
