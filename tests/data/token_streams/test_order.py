"""The order of an epoch: every sample once, the same however it is asked for, few shards in use at a time."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.data.token_streams.order import EpochOrder, Shuffle, shuffle_settings
from genai.errors import UsageError


def order_of(
    sizes: list[int], *, seed: int = 1, epoch: int = 0, block_size: int = 1000, chosen: int | None = None
) -> EpochOrder:
    array = np.array(sizes, dtype=np.int64)
    wanted = sum(sizes) if chosen is None else chosen
    return EpochOrder([array], [wanted], shuffle=Shuffle(seed=seed, block_size=block_size), epoch=epoch)


def all_ids(order: EpochOrder) -> list[int]:
    found: list[int] = order.ids(0, order.num_samples).tolist()
    return found


SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=30).filter(any)


@given(SIZES, st.integers(-5, 2**70), st.integers(0, 3), st.sampled_from([0, 1, 7, 100, 10**6]))
def test_every_sample_once(sizes: list[int], seed: int, epoch: int, block_size: int) -> None:
    order = order_of(sizes, seed=seed, epoch=epoch, block_size=block_size)
    ids = all_ids(order)
    assert sorted(ids) == list(range(sum(sizes)))
    assert block_size or ids == sorted(ids)


@given(SIZES, st.data())
def test_any_piece_is_the_piece_of_the_whole_and_its_units_hold_it(sizes: list[int], data: st.DataObject) -> None:
    block_size = data.draw(st.sampled_from([0, 1, 16, 50, 10**6]))
    whole = all_ids(order_of(sizes, block_size=block_size))
    order = order_of(sizes, block_size=block_size)
    offsets = np.cumsum([0, *sizes])
    for _ in range(4):
        start = data.draw(st.integers(0, len(whole) - 1))
        stop = data.draw(st.integers(start + 1, len(whole)))
        ids = order.ids(start, stop).tolist()
        assert ids == whole[start:stop]
        used = order.unit_shards[slice(*order.units(start, stop))]
        assert set(np.searchsorted(offsets, ids, side="right") - 1) <= set(used.tolist())
        until = order.same_use_until(stop)
        assert order.units(start, until) == order.units(start, stop)


@given(SIZES, st.floats(0.0, 3.5))
def test_a_stream_that_is_repeated_gives_every_sample_about_as_often(sizes: list[int], repeat: float) -> None:
    total = sum(sizes)
    chosen = max(1, int(total * repeat))
    ids = all_ids(order_of(sizes, chosen=chosen))
    counts = np.bincount(ids, minlength=total)
    assert counts.sum() == chosen
    assert counts.min() >= chosen // total
    assert counts.max() <= -(-chosen // total)
    # and so does every shard
    ends = np.cumsum([0, *sizes])
    for start, end in itertools.pairwise(ends):
        assert abs(counts[start:end].sum() - chosen * (end - start) / total) <= 1


def test_other_epochs_and_seeds_give_other_orders() -> None:
    orders = {tuple(all_ids(order_of([10] * 9, seed=seed, epoch=epoch))) for seed in (1, 2) for epoch in (0, 1, 2)}
    assert len(orders) == 6


def test_the_order_never_changes() -> None:
    """What a checkpoint of an earlier release counts on."""
    assert all_ids(order_of([3, 4, 5], seed=17, epoch=2, block_size=4)) == [7, 11, 8, 10, 9, 2, 1, 0, 3, 6, 4, 5]
    mixed = EpochOrder(
        [np.array([3, 4, 5]), np.array([2, 2])], [12, 2], shuffle=Shuffle(seed=17, block_size=64), epoch=2
    )
    assert all_ids(mixed) == [7, 2, 11, 9, 6, 0, 10, 8, 14, 4, 1, 3, 5, 12]


def test_few_shards_are_in_use_and_the_first_batch_needs_one() -> None:
    order = order_of([100] * 200, block_size=800)
    assert order.num_parts == 8
    assert order.units(0, 4) == (0, 1)
    widest = max(end - first for first, end in (order.units(start, start + 4) for start in range(0, 19_996, 4)))
    assert widest <= 9
    assert order.largest_use(np.full(200, 10)) == 90
    # in the long run one more shard for each one used up
    assert [order.units(place, place + 1)[1] for place in (5_000, 10_000, 15_000)] == [54, 104, 154]


def test_shards_in_use_are_bounded_however_small_they_are() -> None:
    order = order_of([3] * 2000, block_size=1 << 18)
    places = range(0, order.num_samples - 4, 40)
    assert max(end - first for first, end in (order.units(start, start + 4) for start in places)) <= 33 * 4


def test_samples_of_a_shard_are_spread_over_the_block() -> None:
    order = order_of([100] * 200, block_size=800)
    ids = np.array(all_ids(order))
    place = np.empty(len(ids))
    place[ids] = np.arange(len(ids))
    inner = [place[100 * shard : 100 * shard + 100] for shard in order.unit_shards[20:180]]
    spans = np.array([span.max() - span.min() for span in inner])
    assert (spans > 700).all()
    assert (spans <= 800).all()
    neighbours = np.mean(ids[1:] // 100 == ids[:-1] // 100)
    assert 0.09 < neighbours < 0.17  # 1 in 8 by chance


def test_several_streams_are_spread_evenly_over_the_epoch() -> None:
    sizes = [np.full(90, 100), np.full(10, 100)]
    order = EpochOrder(sizes, [9000, 1000], shuffle=Shuffle(seed=3, block_size=1000), epoch=0)
    second = order.ids(0, 10_000) >= 9000
    shares = [float(second[start : start + 2500].mean()) for start in range(0, 10_000, 2500)]
    assert all(0.05 < share < 0.15 for share in shares)


def test_no_permutation_of_all_samples_is_made() -> None:
    sizes = np.full(10_000, 100_000, dtype=np.int64)  # a billion samples
    tracemalloc.start()
    order = EpochOrder([sizes], [10**9], shuffle=Shuffle(seed=1, block_size=1 << 18), epoch=5)
    ids = order.ids(777_777_777, 777_777_777 + 64)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(set(ids.tolist())) == 64
    assert peak < 40e6


def test_names_of_algorithms() -> None:
    def block_size(algo: str, *, shuffle: bool = True) -> int:
        return shuffle_settings(shuffle=shuffle, algo=algo, block_size=50, seed=1).block_size

    assert (block_size("py1e"), block_size("py1br"), block_size("py1s"), block_size("py1e", shuffle=False)) == (
        50,
        50,
        1,
        0,
    )
    with pytest.raises(UsageError, match="needs all shards at once"):
        block_size("naive")
    with pytest.raises(UsageError, match="not supported \\(choose one of py1e"):
        block_size("py3")
    with pytest.raises(UsageError, match="holds no sample"):
        shuffle_settings(shuffle=True, algo="py1e", block_size=0, seed=1)


def test_a_place_outside_of_the_epoch() -> None:
    order = order_of([3])
    for start, stop in ((0, 4), (-1, 1), (2, 2)):
        with pytest.raises(IndexError):
            order.ids(start, stop)
