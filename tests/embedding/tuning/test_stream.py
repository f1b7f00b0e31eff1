"""The stream of pairs: what is in a batch, the same again on any number of ranks and after any stop."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.data.retrieval.records import HeldOutQuery, Pair, Passage, RetrievalData
from genai.embedding.tuning.interfaces import PairBatch, TokenTable
from genai.embedding.tuning.stream import PairIndex, PairStream, held_out_batches, index_pairs
from genai.errors import UsageError


def make_data(pairs: list[Pair], num_passages: int = 40, held: int = 4) -> RetrievalData:
    """Pairs over passages p0, p1, ..., of which the last ones are kept back."""
    passages = tuple(Passage(key=f"p{n}", text=f"Text {n}.", document=f"p{n}") for n in range(num_passages))
    kept_back = [passage.key for passage in passages[num_passages - held :]]
    validation = tuple(HeldOutQuery(query=f"held {key}", relevant={key: 1.0}) for key in kept_back)
    return RetrievalData(
        passages=passages, train=tuple(pairs), validation=validation, test=(), kept_back=frozenset(kept_back)
    )


def tokens_for(index: PairIndex) -> TokenTable:
    return TokenTable(
        queries=[np.zeros(1 + n % 3, dtype=np.int32) for n in range(len(index.queries))],
        passages=[np.zeros(2 + n % 5, dtype=np.int32) for n in range(len(index.texts))],
    )


def stream(index: PairIndex, **changes: Any) -> PairStream:
    settings: dict[str, Any] = {"batch_size": 8, "num_negatives": 2, "seed": 1}
    return PairStream(index, tokens_for(index), **{**settings, **changes})


PLAIN = index_pairs(make_data([Pair(query=f"q{n}", positive=f"p{n}") for n in range(30)]))


def plain(batch: PairBatch) -> tuple[Any, ...]:
    return batch.pairs.tolist(), batch.passages.tolist(), batch.epoch, batch.ends_epoch, batch.num_tokens


def epoch_of(one: PairStream) -> list[PairBatch]:
    batches = [one.next_batch()]
    while not batches[-1].ends_epoch:
        batches.append(one.next_batch())
    return batches


def test_every_pair_comes_once_an_epoch() -> None:
    one = stream(PLAIN, drop_last=False)
    for epoch in range(3):
        batches = epoch_of(one)
        assert [len(batch.pairs) for batch in batches] == [8, 8, 8, 6]
        assert sorted(pair for batch in batches for pair in batch.pairs.tolist()) == list(range(30))
        assert {batch.epoch for batch in batches} == {epoch}
        assert one.batches_in_epoch(epoch) == one.batches_in_epoch(epoch + 5) == 4
        assert (one.epoch, one.batch_in_epoch) == (epoch + 1, 0)


def test_the_short_rest_is_dropped_and_is_another_one_each_time() -> None:
    one = stream(PLAIN)
    seen = [{pair for batch in epoch_of(one) for pair in batch.pairs.tolist()} for _ in range(4)]
    assert [len(pairs) for pairs in seen] == [24] * 4
    assert len({frozenset(pairs) for pairs in seen}) == 4
    only = stream(PLAIN, batch_size=100)
    assert len(only.next_batch().pairs) == 30


def test_counts() -> None:
    index = PLAIN
    batch = stream(index).next_batch()
    table = tokens_for(index)
    texts = [len(table.queries[pair]) for pair in batch.pairs] + [len(table.passages[p]) for p in batch.passages.flat]
    assert batch.num_tokens == sum(texts)
    assert (batch.num_examples, batch.num_trained_tokens, batch.rows_by_rank) == (8, 8, (8,))
    assert batch.row_ids == tuple((pair,) for pair in batch.pairs.tolist())
    assert (batch.passages[:, 0] == index.positives[batch.pairs]).all()


def test_the_order_is_a_promise() -> None:
    # Another order would make every run that goes on an inexact one.
    batch = stream(PLAIN).next_batch()
    assert batch.pairs.tolist() == [9, 16, 2, 28, 18, 19, 27, 21]
    assert batch.passages[:3].tolist() == [[9, 12, 8], [16, 22, 12], [2, 24, 4]]


# --- negatives --------------------------------------------------------------------------------------------------------


def test_mined_then_given_then_random() -> None:
    pairs = [Pair(query=f"q{n}", positive=f"p{n}", negatives=("p30", "p31")) for n in range(30)]
    index = index_pairs(make_data(pairs))
    one = stream(index, num_negatives=4)
    mined = np.full((30, 3), -1)
    mined[:, 0] = 32
    mined[:, 1] = np.arange(30)  # an answer, which a miner should not have given
    mined[:, 2] = 30
    one.set_negatives(mined, "first")
    batch = one.next_batch()
    assert (batch.passages[:, 1:4] == [32, 30, 31]).all()
    assert stream(index, num_negatives=1).next_batch().passages[:, 1].tolist() == [30] * 8


def test_random_ones_are_training_passages_and_nobodys_answer() -> None:
    one = stream(PLAIN, num_negatives=5)
    for batch in (one.next_batch() for _ in range(20)):
        negatives = batch.passages[:, 1:]
        assert negatives.max() < 36  # not what is kept back
        assert not set(negatives.flat) & set(batch.passages[:, 0].tolist())
        assert all(len(set(row)) == 6 for row in batch.passages.tolist())
    assert len(set(negatives.flat)) > 10


def test_random_ones_depend_on_epoch_and_pair_only() -> None:
    index = index_pairs(make_data([Pair(query=f"q{n}", positive=f"p{n}") for n in range(6)]))

    def drawn(epochs: int, **changes: Any) -> list[dict[int, list[int]]]:
        one = stream(index, drop_last=False, **changes)
        found = []
        for _ in range(epochs):
            rows = [row for batch in epoch_of(one) for row in zip(batch.pairs, batch.passages.tolist(), strict=True)]
            found.append({int(pair): passages for pair, passages in rows})
        return found

    first, second = drawn(2)
    assert first != second
    assert drawn(1) == [first]
    assert drawn(1, seed=2) != [first]


def test_another_answer_of_the_batch_is_no_negative() -> None:
    pairs = [Pair(query="q0", positive="p0"), Pair(query="q0", positive="p1"), Pair(query="q1", positive="p2")]
    index = index_pairs(make_data(pairs, num_passages=9))
    one = stream(index, batch_size=2, num_negatives=1, drop_last=False)
    mined = np.array([[2], [2], [1]])  # p1 answers q0
    one.set_negatives(mined, "m")
    batches = [batch for _ in range(8) for batch in epoch_of(one)]
    alone = {tuple(batch.pairs.tolist()): batch.passages[:, 1].tolist() for batch in batches if len(batch.pairs) == 1}
    for batch in batches:
        negative_of = dict(zip(batch.pairs.tolist(), batch.passages[:, 1].tolist(), strict=True))
        if 2 in negative_of:
            # beside (q0, p0) it would be pushed away from q0; beside (q0, p1) the loss knows that it is the positive
            assert (negative_of[2] == 1) == (0 not in negative_of)
    assert alone
    assert any(len(batch.pairs) == 2 for batch in batches)


def test_few_passages_must_do() -> None:
    pairs = [Pair(query=f"q{n}", positive=f"p{n}") for n in range(3)]
    one = stream(index_pairs(make_data(pairs, num_passages=3, held=0)), num_negatives=4, batch_size=3)
    batch = one.next_batch()
    for row in batch.passages.tolist():
        assert set(row[1:]) == {0, 1, 2} - {row[0]}
    same = index_pairs(make_data([Pair(query="q", positive=f"p{n}") for n in range(3)], num_passages=3, held=0))
    with pytest.raises(UsageError, match="every passage that could be a negative of 'q' answers it"):
        stream(same, num_negatives=1)
    assert stream(same, num_negatives=0).next_batch().passages.shape == (1, 1)


def test_wrong_shapes_and_no_pairs() -> None:
    with pytest.raises(ValueError, match="negatives of shape"):
        stream(PLAIN).set_negatives(np.zeros((3, 2), dtype=np.int64), "x")
    with pytest.raises(UsageError, match="no pairs to train on"):
        stream(index_pairs(make_data([])))


# --- no row's answer is another's negative ----------------------------------------------------------------------------


@given(
    numbers=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 12)), min_size=1, max_size=40),
    batch_size=st.integers(1, 9),
    num_negatives=st.integers(0, 2),
    distinct=st.booleans(),
)
def test_batches_of_any_pairs(
    numbers: list[tuple[int, int]], batch_size: int, num_negatives: int, distinct: bool
) -> None:
    index = index_pairs(make_data([Pair(query=f"q{q}", positive=f"p{p}") for q, p in numbers]))
    one = stream(
        index, batch_size=batch_size, num_negatives=num_negatives, drop_last=False, distinct=distinct, world_size=2
    )
    other = stream(
        index,
        batch_size=batch_size,
        num_negatives=num_negatives,
        drop_last=False,
        distinct=distinct,
        world_size=2,
        rank=1,
    )
    seen: list[int] = []
    for left, right in zip(epoch_of(one), epoch_of(other), strict=True):
        pairs = [*left.pairs.tolist(), *right.pairs.tolist()]
        passages = np.concatenate([left.passages, right.passages])
        assert left.rows_by_rank == right.rows_by_rank == (len(left.pairs), len(right.pairs))
        assert left.num_tokens == right.num_tokens
        assert passages.shape == (len(pairs), 1 + num_negatives)
        seen += pairs
        for row, pair in enumerate(pairs):
            answers = set(index.answers[pair])
            assert not answers & set(passages[row, 1:].tolist())
            if distinct:
                assert not answers & set(np.delete(passages[:, 0], row).tolist())
                assert not (answers - {int(passages[row, 0])}) & set(passages[:, 1:].flat)
    assert sorted(seen) == list(range(len(numbers)))


def test_much_that_is_left_out_is_told(caplog: pytest.LogCaptureFixture) -> None:
    pairs = [Pair(query="same" if n < 20 else f"q{n}", positive=f"p{n}") for n in range(30)]
    one = stream(index_pairs(make_data(pairs)))
    assert [len(batch.pairs) for batch in epoch_of(one)] == [8]
    assert "22 of 30 pairs are left out of an epoch" in caplog.text


def test_a_text_of_its_own_is_trained_on_and_its_passage_is_no_negative() -> None:
    pairs = [Pair(query=f"q{n}", positive=f"p{n}", positive_text=f"Rest {n}.") for n in range(8)]
    index = index_pairs(make_data(pairs, num_passages=10, held=0))
    one = stream(index, num_negatives=2)
    one.set_negatives(np.roll(np.arange(8), 1)[:, None], "m")
    batch = one.next_batch()
    assert sorted(batch.passages[:, 0].tolist()) == list(range(10, 18))
    assert set(batch.passages[:, 1:].flat) == {8, 9}  # the others answer a query of the batch


# --- going on, ranks --------------------------------------------------------------------------------------------------


@given(steps=st.integers(0, 11), world_size=st.sampled_from([1, 2, 3, 11]))
def test_going_on_is_exact_on_any_number_of_ranks(steps: int, world_size: int) -> None:
    one = stream(PLAIN)
    for _ in range(steps):
        one.next_batch()
    state = json.loads(json.dumps(one.state_dict()))
    ranks = [stream(PLAIN, rank=rank, world_size=world_size) for rank in range(world_size)]
    for rank in ranks:
        rank.load_state_dict(state)
        assert (rank.epoch, rank.batch_in_epoch) == (one.epoch, one.batch_in_epoch)
        assert rank.state_dict() == state
    for _ in range(5):
        whole = one.next_batch()
        parts = [rank.next_batch() for rank in ranks]
        assert np.concatenate([part.pairs for part in parts]).tolist() == whole.pairs.tolist()
        assert np.concatenate([part.passages for part in parts]).tolist() == whole.passages.tolist()
        assert {part.num_tokens for part in parts} == {whole.num_tokens}
        assert {part.ends_epoch for part in parts} == {whole.ends_epoch}
        assert parts[0].rows_by_rank == tuple(len(part.pairs) for part in parts)
        assert max(parts[0].rows_by_rank) - min(parts[0].rows_by_rank) <= 1


def test_mined_negatives_must_come_back() -> None:
    one = stream(PLAIN)
    first, second = np.full((30, 1), 31), np.full((30, 1), 32)
    one.set_negatives(first, "ba0")
    one.next_batch()
    one.set_negatives(second, "ba1")
    state = one.state_dict()
    again = stream(PLAIN)
    again.set_negatives(first, "ba0")
    again.load_state_dict(state)
    assert again.negatives_name == "ba1"
    with pytest.raises(ValueError, match="the negatives 'ba1' were not given back"):
        again.next_batch()
    again.set_negatives(second, "ba1")
    assert plain(again.next_batch()) == plain(one.next_batch())
    unmined = stream(PLAIN)
    unmined.set_negatives(first, "ba0")
    unmined.load_state_dict(stream(PLAIN).state_dict())
    assert plain(unmined.next_batch()) == plain(stream(PLAIN).next_batch())


def test_what_decides_the_order_must_not_have_changed() -> None:
    state = stream(PLAIN).state_dict()
    with pytest.raises(UsageError, match="batch_size, seed changed"):
        stream(PLAIN, batch_size=4, seed=3).load_state_dict(state)
    others = index_pairs(make_data([Pair(query=f"r{n}", positive=f"p{n}") for n in range(30)]))
    with pytest.raises(UsageError, match="pairs changed"):
        stream(others).load_state_dict(state)


# --- labels, validation -----------------------------------------------------------------------------------------------


def test_labels() -> None:
    pairs = [Pair(query=f"q{n}", positive=f"p{n}", score=n / 10) for n in range(10)]
    index = index_pairs(make_data(pairs), graded=True)
    batch = stream(index, num_negatives=0).next_batch()
    assert batch.labels is not None
    assert batch.labels.dtype == np.float32
    assert batch.labels[:, 0] == pytest.approx(batch.pairs / 10)
    with_negatives = stream(index, num_negatives=2).next_batch().labels
    assert with_negatives is not None
    assert with_negatives[:, 1:].tolist() == [[0.0, 0.0]] * 8
    assert stream(PLAIN).next_batch().labels is None

    def teacher(rows: Any, passages: Any) -> Any:
        return (rows[:, None] * 100 + passages).astype(np.float32)

    taught = stream(index, labels=teacher, rank=1, world_size=2).next_batch()
    assert taught.labels is not None
    assert (taught.labels == taught.pairs[:, None] * 100 + taught.passages).all()


def test_held_out_batches() -> None:
    index, table = PLAIN, tokens_for(PLAIN)
    batches = list(held_out_batches(index, table, batch_size=3, num_negatives=2))
    assert [batch.pairs.tolist() for batch in batches] == [[30, 31, 32], [33]]
    assert np.concatenate([batch.passages[:, 0] for batch in batches]).tolist() == [36, 37, 38, 39]
    assert [batch.ends_epoch for batch in batches] == [False, True]
    again = list(held_out_batches(index, table, batch_size=3, num_negatives=2))
    assert [plain(batch) for batch in again] == [plain(batch) for batch in batches]
    ranks = [list(held_out_batches(index, table, batch_size=3, rank=rank, world_size=2)) for rank in range(2)]
    assert [[batch.pairs.tolist() for batch in rank] for rank in ranks] == [[[30], []], [[31, 32], [33]]]
    assert not list(
        held_out_batches(
            index_pairs(make_data([], held=0)), tokens_for(index_pairs(make_data([], held=0))), batch_size=3
        )
    )
