"""Batches: what the model sees, each example once an epoch, and a stream that goes on exactly where it was saved."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genai.data.batches import Batch, BatchStream, epoch_order, eval_batches
from genai.data.tokenized import TokenizedRows
from genai.errors import UsageError

PAD = 999


def tokenized(lengths: list[int]) -> TokenizedRows:
    """Example i holds the ids 100 i, 100 i + 1, ...; every other token is trained."""
    ids = [[100 * i + t for t in range(length)] for i, length in enumerate(lengths)]
    return TokenizedRows.from_lists(ids, [[t % 2 == 1 for t in range(length)] for length in lengths])


def stream(rows: TokenizedRows, **changes: Any) -> BatchStream:
    defaults: dict[str, Any] = {
        "max_seq_len": 16,
        "batch_size": 3,
        "packing": True,
        "shuffle": True,
        "seed": 17,
        "drop_last": False,
        "pad_token_id": PAD,
        "pool_size": 8,
    }
    return BatchStream(rows, **(defaults | changes))


def one_epoch(batches: BatchStream) -> list[Batch]:
    epoch = [batches.next_batch()]
    while not epoch[-1].ends_epoch:
        epoch.append(batches.next_batch())
    return epoch


def same(left: Batch, right: Batch) -> bool:
    names = ("num_tokens", "num_trained_tokens", "num_examples", "row_ids", "epoch", "ends_epoch")
    arrays = ("input_ids", "labels", "position_ids")
    return all(getattr(left, name) == getattr(right, name) for name in names) and all(
        np.array_equal(getattr(left, name), getattr(right, name)) for name in arrays
    )


def test_a_packed_batch_by_hand() -> None:
    rows = tokenized([3, 5, 4])
    (batch,) = one_epoch(stream(rows, max_seq_len=9, shuffle=False))
    assert batch.row_ids == ((0, 1), (2,))
    assert batch.input_ids.tolist() == [[0, 1, 2, 100, 101, 102, 103, 104, PAD], [200, 201, 202, 203, *[PAD] * 5]]
    assert batch.labels.tolist() == [
        [-100, 1, -100, -100, 101, -100, 103, -100, -100],
        [-100, 201, -100, 203, *[-100] * 5],
    ]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1, 2, 3, 4, 0], [0, 1, 2, 3, 0, 1, 2, 3, 4]]
    assert (batch.num_tokens, batch.num_trained_tokens, batch.num_examples) == (12, 5, 3)
    assert (batch.epoch, batch.ends_epoch) == (0, True)
    assert {array.dtype for array in (batch.input_ids, batch.labels, batch.position_ids)} == {np.dtype(np.int64)}


def test_a_padded_batch_by_hand() -> None:
    rows = tokenized([3, 9, 4, 2])
    first, last = one_epoch(stream(rows, packing=False, shuffle=False, max_seq_len=64))
    assert first.row_ids == ((0,), (1,), (2,))
    assert first.input_ids.shape == (3, 16)  # 9 rounded up to a multiple of 8
    assert first.input_ids[0].tolist() == [0, 1, 2, *[PAD] * 13]
    assert first.position_ids[0].tolist() == [0, 1, 2, *range(13)]
    assert last.input_ids.shape == (1, 8)
    assert (first.ends_epoch, last.ends_epoch, first.num_tokens) == (False, True, 16)


def test_rounding_up_stops_at_max_seq_len() -> None:
    (batch,) = one_epoch(stream(tokenized([9]), packing=False, max_seq_len=11))
    assert batch.input_ids.shape == (1, 11)


lengths_lists = st.lists(st.integers(1, 16), min_size=1, max_size=60)
options = st.fixed_dictionaries(
    {
        "packing": st.booleans(),
        "shuffle": st.booleans(),
        "drop_last": st.booleans(),
        "batch_size": st.integers(1, 5),
        "pool_size": st.integers(1, 12),
        "seed": st.integers(-3, 2**70),
    }
)


@settings(deadline=None)
@given(lengths=lengths_lists, option=options)
def test_an_epoch_holds_every_example_once(lengths: list[int], option: dict[str, Any]) -> None:
    rows = tokenized(lengths)
    batches = stream(rows, **option)
    for epoch in range(2):
        assert batches.epoch == epoch
        expected = batches.batches_in_epoch(epoch)
        given_out = one_epoch(batches)
        assert len(given_out) == expected
        assert {batch.epoch for batch in given_out} == {epoch}
        seen = [index for batch in given_out for row in batch.row_ids for index in row]
        assert len(seen) == len(set(seen)) == sum(batch.num_examples for batch in given_out)
        if not option["drop_last"]:
            assert sorted(seen) == list(range(len(rows)))
        full = given_out[:-1] if not option["drop_last"] or len(given_out) == 1 else given_out
        assert all(len(batch.input_ids) == option["batch_size"] for batch in full)


@settings(deadline=None)
@given(lengths=lengths_lists, option=options)
def test_every_batch_says_what_the_rows_say(lengths: list[int], option: dict[str, Any]) -> None:
    rows = tokenized(lengths)
    for batch in one_epoch(stream(rows, **option)):
        real = batch.input_ids != PAD
        assert real.sum() == batch.num_tokens
        assert (batch.labels >= 0).sum() == batch.num_trained_tokens
        assert (batch.labels[batch.position_ids == 0] == -100).all()
        for row, examples in enumerate(batch.row_ids):
            starts = np.flatnonzero(batch.position_ids[row] == 0)
            padded = int(not real[row].all())
            assert len(starts) == len(examples) + padded
            pieces = np.split(np.arange(batch.input_ids.shape[1]), starts[1:])
            for index, piece in zip(examples, pieces, strict=False):
                ids, trained = rows.example(index)
                assert batch.input_ids[row, piece].tolist() == ids.tolist()
                assert batch.labels[row, piece].tolist() == np.where(trained, ids, -100).tolist()
                assert batch.position_ids[row, piece].tolist() == list(range(len(ids)))


@settings(deadline=None)
@given(lengths=lengths_lists, option=options, cut=st.integers(0, 40))
def test_interrupted_anywhere_it_goes_on_exactly(lengths: list[int], option: dict[str, Any], cut: int) -> None:
    rows = tokenized(lengths)
    whole, broken = stream(rows, **option), stream(rows, **option)
    for _ in range(cut):
        whole.next_batch()
        broken.next_batch()
    state = json.loads(json.dumps(broken.state_dict()))
    continued = stream(tokenized(lengths), **option)
    continued.next_batch()  # what a stream did before must not matter
    continued.load_state_dict(state)
    assert (continued.epoch, continued.batch_in_epoch) == (whole.epoch, whole.batch_in_epoch)
    assert all(same(whole.next_batch(), continued.next_batch()) for _ in range(12))


def test_the_order_is_a_pure_function_of_seed_and_epoch() -> None:
    # These numbers are a promise: a checkpoint of an older genai must find the same order again.
    assert epoch_order(8, seed=17, epoch=0).tolist() == [1, 4, 3, 5, 6, 2, 7, 0]
    assert epoch_order(8, seed=17, epoch=0).tolist() != epoch_order(8, seed=17, epoch=1).tolist()
    assert epoch_order(8, seed=17, epoch=0).tolist() != epoch_order(8, seed=18, epoch=0).tolist()
    assert epoch_order(3, seed=17, epoch=5, shuffle=False).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "change",
    [{"seed": 18}, {"batch_size": 2}, {"packing": False}, {"max_seq_len": 32}, {"shuffle": False}, {"pool_size": 9}],
)
def test_a_state_of_another_order_is_refused(change: dict[str, Any]) -> None:
    rows = tokenized([3, 5, 4, 2])
    state = stream(rows).state_dict()
    with pytest.raises(UsageError, match=next(iter(change))):
        stream(rows, **change).load_state_dict(state)
    with pytest.raises(UsageError, match="rows changed"):
        stream(tokenized([3, 5, 4, 3])).load_state_dict(state)


def test_drop_last_keeps_the_only_batch_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="genai"):
        batches = stream(tokenized([3, 4]), packing=False, drop_last=True)
    assert "drop_last is ignored" in caplog.text
    assert [batch.num_examples for batch in one_epoch(batches)] == [2]
    assert [len(batch.row_ids) for batch in one_epoch(stream(tokenized([3] * 7), packing=False, drop_last=True))] == [
        3,
        3,
    ]


def test_what_a_stream_refuses() -> None:
    with pytest.raises(UsageError, match="no rows"):
        stream(TokenizedRows.from_lists([]))
    with pytest.raises(ValueError, match="17 tokens, more than max_seq_len 16"):
        stream(tokenized([3, 17]))


def test_eval_batches_are_in_order_of_length() -> None:
    rows = tokenized([3, 9, 4, 16, 9])
    batches = list(eval_batches(rows, max_seq_len=16, batch_size=2, pad_token_id=PAD))
    assert [batch.row_ids for batch in batches] == [((3,), (1,)), ((4,), (2,)), ((0,),)]
    assert [batch.input_ids.shape for batch in batches] == [(2, 16), (2, 16), (1, 8)]
    assert [batch.ends_epoch for batch in batches] == [False, False, True]
    assert sum(batch.num_trained_tokens for batch in batches) == rows.trained_counts.sum()
    assert list(eval_batches(TokenizedRows.from_lists([]), max_seq_len=16, batch_size=2, pad_token_id=PAD)) == []


@pytest.mark.parametrize("world_size", [2, 3, 4, 5])
@pytest.mark.parametrize("packing", [True, False])
def test_ranks_divide_the_same_batches(world_size: int, packing: bool) -> None:
    rows = tokenized([3, 9, 4, 16, 9, 5, 7, 2, 11, 6, 3])
    settings: dict[str, Any] = {"packing": packing, "batch_size": 4}
    whole = stream(rows, **settings)
    parts = [stream(rows, **settings, rank=rank, world_size=world_size) for rank in range(world_size)]
    for _ in range(2 * whole.batches_in_epoch(0)):
        expected, found = whole.next_batch(), [part.next_batch() for part in parts]
        assert np.array_equal(np.concatenate([batch.input_ids for batch in found]), expected.input_ids)
        assert sum((batch.row_ids for batch in found), ()) == expected.row_ids
        assert max(len(batch.labels) for batch in found) - min(len(batch.labels) for batch in found) <= 1
        for batch in found:
            assert batch.num_tokens == expected.num_tokens
            assert batch.num_trained_tokens == expected.num_trained_tokens
            assert (batch.num_examples, batch.ends_epoch) == (expected.num_examples, expected.ends_epoch)
    states = [json.dumps(part.state_dict()) for part in parts]
    assert states == [json.dumps(whole.state_dict())] * world_size


def test_a_stream_goes_on_with_another_number_of_ranks() -> None:
    rows = tokenized([3, 9, 4, 16, 9, 5, 7, 2, 11, 6, 3])
    whole = stream(rows)
    first = stream(rows, rank=1, world_size=2)
    whole.next_batch(), first.next_batch()
    later = [stream(rows, rank=rank, world_size=3) for rank in range(3)]
    for each in later:
        each.load_state_dict(first.state_dict())
    assert sum((each.next_batch().row_ids for each in later), ()) == whole.next_batch().row_ids


def test_evaluation_batches_are_dealt_out_to_the_ranks() -> None:
    rows = tokenized([3, 9, 4, 16, 9])
    settings: dict[str, Any] = {"max_seq_len": 16, "batch_size": 2, "pad_token_id": PAD}
    dealt = [[batch.row_ids for batch in eval_batches(rows, **settings, rank=rank, world_size=2)] for rank in (0, 1)]
    assert dealt == [[((3,), (1,)), ((0,),)], [((4,), (2,))]]
    assert list(eval_batches(rows, **settings, rank=3, world_size=4)) == []


def test_a_batch_is_cheap() -> None:
    lengths = np.random.default_rng(0).lognormal(5.0, 0.9, 3000).astype(np.int64).clip(8, 1024).tolist()
    batches = stream(TokenizedRows.from_lists([list(range(n)) for n in lengths]), max_seq_len=1024, batch_size=8)
    times = []
    for _ in range(20):
        started = time.process_time()
        batches.next_batch()
        times.append(time.process_time() - started)
    assert np.median(times) < 0.002  # 0.5 ms here; a busy machine gets some slack
