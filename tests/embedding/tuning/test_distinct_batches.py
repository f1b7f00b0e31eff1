"""Batches without clashes: every row once, as full as can be, and quickly also where all rows share something."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.embedding.tuning.distinct_batches import distinct_batches


def clash(rows: list[tuple[int, int, list[int]]], left: int, right: int) -> bool:
    (query, passage, answers), (other_query, other_passage, other_answers) = rows[left], rows[right]
    return query == other_query or passage in other_answers or other_passage in answers


row = st.tuples(st.integers(0, 6), st.integers(0, 6), st.sets(st.integers(0, 6), max_size=2))


@given(drawn=st.lists(row, max_size=30), batch_size=st.integers(1, 8))
def test_no_clash_no_loss_no_end(drawn: list[tuple[int, int, set[int]]], batch_size: int) -> None:
    rows = [(query, passage, [passage, *(answers - {passage})]) for query, passage, answers in drawn]
    batches = distinct_batches(
        range(len(rows)),
        batch_size=batch_size,
        query_ids=[query for query, _, _ in rows],
        passages=[passage for _, passage, _ in rows],
        answers=[answers for _, _, answers in rows],
    )
    assert sorted(number for batch in batches for number in batch) == list(range(len(rows)))
    for number, batch in enumerate(batches):
        assert 0 < len(batch) <= batch_size
        assert not any(clash(rows, a, b) for a in batch for b in batch if a < b)
        if len(batch) < batch_size:  # only because all that is left clashes
            left = [other for later in batches[number + 1 :] for other in later]
            assert all(any(clash(rows, other, mine) for mine in batch) for other in left)


def test_rows_wait_for_the_next_batch() -> None:
    queries, passages = [0, 0, 1, 2, 3, 4], [0, 1, 0, 2, 3, 4]
    answers = [[0, 1], [1, 0], [0], [2], [3], [4]]
    batches = distinct_batches(range(6), batch_size=3, query_ids=queries, passages=passages, answers=answers)
    assert batches == [[0, 3, 4], [1, 5], [2]]
    assert distinct_batches([], batch_size=3, query_ids=[], passages=[], answers=[]) == []


@pytest.mark.parametrize("shared", ["query", "passage"])
def test_much_that_is_shared_costs_little(shared: str) -> None:
    number = 40_000
    own = list(range(number))
    half = [0 if n % 2 else n for n in own]
    queries, passages = (half, own) if shared == "query" else (own, half)
    started = time.process_time()
    batches = distinct_batches(
        own, batch_size=32, query_ids=queries, passages=passages, answers=[[each] for each in passages]
    )
    assert time.process_time() - started < 1.5
    assert sum(map(len, batches)) == number
    assert len(batches[0]) == 32
