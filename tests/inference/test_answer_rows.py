"""Rows beside the cache: what is read from them is what the blocks hold, whoever comes and goes."""

import random
from typing import Any

import pytest
import torch

from genai.inference.answer_rows import AnswerRows
from genai.inference.interfaces import Answering, Part
from genai.inference.paged_attention import PagedCache
from genai.models.generation import GenerationRequest

BLOCK_SIZE, KV_HEADS, WIDTH, LAYERS = 4, 2, 3, 2


class Going:
    """An answer whose key for place p is p plus 1000 times its number, in all layers but for the sign."""

    def __init__(self, number: int, start: int, pool: list[int]) -> None:
        self.number, self.start, self.pool = number, start, pool
        request = GenerationRequest(id=str(number), model="", prompt_ids=[1])
        self.sequence = Answering(request=request, arrival=0.0)
        self.written = 0

    def values(self, start: int, stop: int) -> torch.Tensor:
        return (torch.arange(start, stop) + 1000.0 * self.number)[:, None, None].expand(-1, KV_HEADS, WIDTH)

    def write(self, cache: PagedCache) -> None:
        """What comes before the next token, into the blocks."""
        blocks = self.sequence.blocks
        while len(blocks) * BLOCK_SIZE <= self.start:
            blocks.append(self.pool.pop())
        for at in range(self.written, self.start):
            place = blocks[at // BLOCK_SIZE] * BLOCK_SIZE + at % BLOCK_SIZE
            for layer in range(LAYERS):
                cache.keys[layer][:, place] = self.values(at, at + 1)[0] * (1 - 2 * layer)
                cache.values[layer][:, place] = -self.values(at, at + 1)[0]
        self.written = self.start

    @property
    def part(self) -> Part:
        blocks = self.sequence.blocks
        slot = blocks[self.start // BLOCK_SIZE] * BLOCK_SIZE + self.start % BLOCK_SIZE
        return Part(self.sequence, self.start, [1], [slot], True)


class Counted(AnswerRows):
    """Counts how many rows were filled."""

    num_filled = 0

    def _fill(self, rows: Any, parts: Any) -> None:
        self.num_filled += len(rows)
        super()._fill(rows, parts)


def new_cache(max_tokens: int = 4000) -> tuple[PagedCache, Counted]:
    cache = PagedCache(
        num_layers=LAYERS,
        num_blocks=2000,
        block_size=BLOCK_SIZE,
        num_kv_heads=KV_HEADS,
        head_dim=WIDTH,
        dtype=torch.float32,
    )
    cache.rows = rows = Counted(cache, max_tokens)
    return cache, rows


def read_step(cache: PagedCache, going: list[Going]) -> list[int]:
    """One token of each; those that have rows are compared, and told."""
    for one in going:
        one.write(cache)
    taken = cache.rows.take([one.part for one in going])
    mine = [going[at] for at in taken]
    places_X = cache.rows.places(KV_HEADS) if mine else None
    for layer in range(LAYERS if mine else 0):
        new_BKE = torch.stack([one.values(one.start, one.start + 1)[0] for one in mine])
        cache.rows.write(layer, places_X, new_BKE * (1 - 2 * layer), -new_BKE)
        keys_XLE, values_XLE = cache.rows.read(layer)
        keys_BKLE = keys_XLE.view(len(mine), KV_HEADS, -1, WIDTH)
        values_BKLE = values_XLE.view(len(mine), KV_HEADS, -1, WIDTH)
        for row, one in enumerate(mine):
            expected = one.values(0, one.start + 1).transpose(0, 1)
            assert keys_BKLE[row, :, : one.start + 1].equal(expected * (1 - 2 * layer))
            assert values_BKLE[row, :, : one.start + 1].equal(-expected)
    for one in going:
        one.start += 1
    return taken


def test_an_unchanged_batch_is_filled_once() -> None:
    cache, rows = new_cache()
    pool = list(range(1, 2000))
    going = [Going(number, 5 + number, pool) for number in range(6)]
    for _ in range(20):
        assert sorted(read_step(cache, going)) == list(range(6))
    assert rows.num_filled == 6


def test_who_comes_takes_the_place_of_who_goes() -> None:
    cache, rows = new_cache()
    pool = list(range(1, 2000))
    going = [Going(number, 20, pool) for number in range(6)]
    read_step(cache, going)
    going[2] = Going(7, 11, pool)
    read_step(cache, going)
    assert rows.num_filled == 7
    del going[0]
    assert len(read_step(cache, going)) == 5
    assert rows.num_filled <= 8


@pytest.mark.parametrize("seed", range(6))
def test_any_coming_and_going(seed: int) -> None:
    luck = random.Random(seed)
    cache, _ = new_cache(luck.choice([150, 700, 4000]))
    pool = list(range(1, 2000))
    going: list[Going] = []
    for step in range(60):
        if luck.random() < 0.4:
            going.append(Going(step, luck.choice([0, 1, 4, 30, 30, 120]), pool))
        if going and luck.random() < 0.25:
            going.remove(luck.choice(going))
        read = [one for one in going if luck.random() < 0.9]
        luck.shuffle(read)
        if read:
            read_step(cache, read)


def test_a_step_that_broke_off_is_read_again() -> None:
    cache, rows = new_cache()
    pool = list(range(1, 2000))
    going = [Going(number, 9, pool) for number in range(3)]
    read_step(cache, going)
    for one in going:
        one.write(cache)
    cache.rows.take([one.part for one in going])  # and nothing is written
    read_step(cache, going)
    assert rows.num_filled == 6


def test_who_is_much_longer_is_left_to_be_gathered() -> None:
    cache, _ = new_cache()
    pool = list(range(1, 2000))
    going = [Going(number, 20, pool) for number in range(20)]
    going.insert(3, Going(99, 1500, pool))
    assert sorted(read_step(cache, going)) == [at for at in range(21) if at != 3]


def test_without_room_all_are_gathered() -> None:
    cache, _ = new_cache(40)
    going = Going(0, 30, list(range(1, 2000)))
    going.write(cache)
    assert cache.rows.take([going.part]) == []


def test_what_a_step_left_can_be_taken_out() -> None:
    cache, _ = new_cache()
    pool = list(range(1, 2000))
    bad, good = Going(0, 30, pool), Going(1, 3, pool)
    bad.write(cache)
    cache.rows.take([bad.part])
    cache.rows.write(0, cache.rows.places(KV_HEADS), *[torch.full((1, KV_HEADS, WIDTH), torch.nan)] * 2)
    cache.rows.forget()
    read_step(cache, [good])
    assert all(tensor.isfinite().all() for tensor in cache.rows.read(0))
