"""The model of an allocator: room is reused, joined, and lost as glibc loses it."""

from __future__ import annotations

import random

import pytest

from genai.training.plan.heap import Heap


@pytest.fixture
def glibc() -> Heap:
    return Heap(granule=64, margin=128)


def test_what_was_freed_is_handed_out_again() -> None:
    heap = Heap(granule=512, margin=0)
    heap.allocate(0, 1000)
    heap.allocate(1, 1024)
    heap.release(0)
    heap.allocate(2, 1024)
    assert heap.extent_bytes == 2048


def test_the_smallest_block_that_fits_is_taken() -> None:
    heap = Heap(granule=512, margin=0)
    for key, size in enumerate([4096, 512, 1024, 512]):
        heap.allocate(key, size)
    heap.release(0)
    heap.release(2)
    heap.allocate(4, 1024)
    heap.allocate(5, 4096)
    assert heap.extent_bytes == 4096 + 512 + 1024 + 512


def test_free_neighbours_are_joined() -> None:
    heap = Heap(granule=512, margin=0)
    for key in range(4):
        heap.allocate(key, 512)
    for key in (0, 2, 1):
        heap.release(key)
    heap.allocate(4, 3 * 512)
    assert heap.extent_bytes == 4 * 512


def test_the_free_end_is_given_back() -> None:
    heap = Heap(granule=512, margin=0)
    heap.allocate(0, 512)
    heap.release(0)
    heap.allocate(1, 2048)
    assert heap.extent_bytes == 2048


def layer(heap: Heap, number: int) -> None:
    """Something that stays between two things that pass."""
    for offset in range(3):
        heap.allocate(3 * number + offset, 1 << 20)
    heap.release(3 * number)
    heap.release(3 * number + 2)


def test_in_a_forward_pass_of_glibcs_a_hole_does_not_serve_for_a_block_of_its_own_size(glibc: Heap) -> None:
    glibc.pinning = True
    for number in range(10):
        layer(glibc, number)
    assert glibc.extent_bytes > 20 << 20


def test_elsewhere_it_does(glibc: Heap) -> None:
    for number in range(10):
        layer(glibc, number)
    assert 12 << 20 < glibc.extent_bytes < 13 << 20


def test_holes_come_back_with_the_small_objects_gone(glibc: Heap) -> None:
    glibc.pinning = True
    glibc.allocate(0, 1 << 20)
    glibc.allocate(1, 1 << 20)
    glibc.release(0)
    glibc.unpin()
    before = glibc.extent_bytes
    glibc.allocate(2, 1 << 20)
    assert glibc.extent_bytes == before


@pytest.mark.parametrize("margin", [0, 128])
def test_nothing_is_lost_over_a_long_random_life(margin: int) -> None:
    heap, alive, live, most = Heap(granule=64, margin=margin), {}, 0, 0
    draw = random.Random(5)
    for key in range(5000):
        if alive and draw.random() < 0.5:
            victim = draw.choice([*alive])
            live -= alive.pop(victim)
            heap.release(victim)
        else:
            alive[key] = 64 * draw.randrange(1, 1000)
            live += alive[key]
            heap.allocate(key, alive[key])
        most = max(most, live)
    assert most <= heap.extent_bytes < 1.5 * most
    for key in alive:
        heap.release(key)
    whole = heap.extent_bytes
    heap.allocate(-1, whole - margin)
    assert heap.extent_bytes == whole
