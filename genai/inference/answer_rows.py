"""Keys and values of the answers that go on, a second time: a row for each, from its first token to its last.

Attention of a step that reads one token of each sequence would gather the blocks of all of them anew, in every layer,
which takes as long as attention itself. Rows are filled from the blocks once, when an answer begins to go on, and get
each new token beside the blocks; the blocks remain what counts.

Rows are as long as the longest of them, so sequences that are much longer than the others are left to be gathered.

Shapes: R rows; K heads of keys and values; L tokens that a row has room for; E width of a head; B sequences; P blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genai.inference.interfaces import Answering, Part

if TYPE_CHECKING:
    from genai.inference.paged_attention import PagedCache

_ROOM_TO_GROW = 32
"""Tokens that a row has room for beyond its longest sequence, about: attention reads them too, and when they are full
all rows are filled anew (measured on a CPU)."""
_TO_GATHER = 3
"""A token that is gathered costs as much as so many in a row."""
_TO_READ_APART = 512
"""Tokens in rows for whose cost another batch is read."""


class AnswerRows:
    """Belongs to a cache.

    Args:
        cache: whose blocks the rows repeat.
        max_tokens: that there is room for, over all rows.
    """

    def __init__(self, cache: PagedCache, max_tokens: int) -> None:
        self._cache = cache
        self._max_tokens = max_tokens
        self._length = 0
        """L"""
        self._owners: list[Answering] = []
        """Of each row."""
        self._stops: list[int] = []
        """Tokens in each row, once the layers have read the step."""
        # As long as nothing was written into a page of them, it takes no memory.
        self._keys = [_room_like(keys_KNE, max_tokens) for keys_KNE in cache.keys]
        self._values = [_room_like(values_KNE, max_tokens) for values_KNE in cache.values]

    def take(self, parts: Sequence[Part]) -> list[int]:
        """Give rows to sequences that go on.

        Args:
            parts: one token of each.

        Returns:
            Which of the parts the rows from the first on belong to; the others are to be gathered.
        """
        chosen = self._choose(parts)
        if not chosen:
            return []
        self._make_room(max(parts[at].stop for at in chosen))
        found = dict(zip(self._owners[: len(chosen)], range(len(chosen)), strict=False))
        places: list[int | None] = [None] * len(chosen)
        new = []
        for at in chosen:
            row = found.get(parts[at].sequence)
            if row is None or self._stops[row] != parts[at].start:
                new.append(at)
            else:
                places[row] = at
        free = [row for row, at in enumerate(places) if at is None]
        self._fill(free, [parts[at] for at in new])
        for row, at in zip(free, new, strict=True):
            places[row] = at
        rows = [at for at in places if at is not None]
        self._owners = [parts[at].sequence for at in rows]
        self._stops = [parts[at].stop for at in rows]
        return rows

    def write(self, layer: int, index_X: Tensor, key_BKE: Tensor, value_BKE: Tensor) -> None:
        """Append a token to each row.

        Args:
            layer: counted from 0.
            index_X: where to, from `places`.
            key_BKE: in the order of the rows.
            value_BKE: likewise.
        """
        width = key_BKE.shape[-1]
        for room, new_BKE in ((self._keys[layer], key_BKE), (self._values[layer], value_BKE)):
            room.view(-1, width).index_copy_(0, index_X, new_BKE.reshape(-1, width))

    def places(self, num_kv: int) -> Tensor:
        """(X,) int64, X = B * K: where the last token of each row and head lies."""
        stops_B1 = torch.tensor(self._stops, device=self._cache.device)[:, None]
        rows_BK = torch.arange(len(self._stops) * num_kv, device=self._cache.device).view(-1, num_kv)
        return (rows_BK * self._length + stops_B1 - 1).flatten()

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the rows that were taken: (B * K, L, E) each."""
        num_kv, _, width = self._cache.keys[layer].shape
        shape = (len(self._stops) * num_kv, self._length, width)
        size = math.prod(shape)
        return self._keys[layer][:size].view(shape), self._values[layer][:size].view(shape)

    @property
    def length(self) -> int:
        """L"""
        return self._length

    def forget(self) -> None:
        """Empty all rows that were taken for this step; no earlier one left anything behind that is no number."""
        for layer in range(len(self._keys)):
            for rows_XLE in self.read(layer):
                rows_XLE.zero_()
        self._owners, self._stops = [], []

    # --- who gets rows ------------------------------------------------------------------------------------------------

    def _choose(self, parts: Sequence[Part]) -> list[int]:
        """All but the longest, where those are so much longer that it pays to gather them, or rows have no room."""
        order = sorted(range(len(parts)), key=lambda at: -parts[at].stop)
        gathered, best, best_cost = 0, len(order), _TO_GATHER * sum(part.stop for part in parts)
        for first, at in enumerate(order):
            stop, count = parts[at].stop, len(order) - first
            cost = _TO_GATHER * gathered + count * stop + (_TO_READ_APART if first else 0)
            if cost < best_cost and count * self._length_for(stop) <= self._max_tokens:
                best, best_cost = first, cost
            gathered += stop
        return sorted(order[best:])

    def _length_for(self, stop: int) -> int:
        """What rows need whose longest sequence has so many tokens; the length that they have, where it will do."""
        if stop <= self._length <= stop + stop // 4 + 2 * _ROOM_TO_GROW:
            return self._length
        size = self._cache.block_size
        return -(-(stop + _ROOM_TO_GROW) // size) * size

    def _make_room(self, stop: int) -> None:
        length = self._length_for(stop)
        if length != self._length:
            self._length, self._owners, self._stops = length, [], []

    def _fill(self, rows: Sequence[int], parts: Sequence[Part]) -> None:
        """Copy what sequences have in their blocks."""
        size, device = self._cache.block_size, self._cache.device
        tables = [part.sequence.blocks[: -(-part.start // size)] for part in parts]
        widest = max(map(len, tables), default=0)
        if not widest:
            return
        blocks_BP = torch.tensor([[*table, *[0] * (widest - len(table))] for table in tables], device=device)
        rows_B = torch.tensor(rows, device=device)
        for layer, cached_KNE in enumerate(self._cache.keys):
            self._copy(cached_KNE, blocks_BP, self._keys[layer], rows_B)
            self._copy(self._cache.values[layer], blocks_BP, self._values[layer], rows_B)

    def _copy(self, cached_KNE: Tensor, blocks_BP: Tensor, room: Tensor, rows_B: Tensor) -> None:
        (num_kv, _, width), length = cached_KNE.shape, self._length
        num_rows = self._max_tokens // length
        room_RKLE = room[: num_rows * num_kv * length * width].view(num_rows, num_kv, length, width)
        found_XLE = gather_blocks(cached_KNE, blocks_BP, self._cache.block_size)
        found_BKLE = found_XLE.view(len(rows_B), num_kv, -1, width)
        room_RKLE[:, :, : found_BKLE.shape[2]].index_copy_(0, rows_B, found_BKLE)


def _room_like(cached_KNE: Tensor, max_tokens: int) -> Tensor:
    num_kv, _, width = cached_KNE.shape
    return torch.zeros(max_tokens * num_kv * width, dtype=cached_KNE.dtype, device=cached_KNE.device)


def gather_blocks(cached_KNE: Tensor, blocks_BP: Tensor, block_size: int) -> Tensor:
    """(B * K, tokens of P blocks, E): what lies in the blocks of each sequence, head by head."""
    num_kv, num_places, width = cached_KNE.shape
    num_blocks = num_places // block_size
    heads_K1 = torch.arange(num_kv, device=cached_KNE.device)[:, None] * num_blocks
    index = (heads_K1 + blocks_BP[:, None]).flatten()
    blocks = cached_KNE.view(num_kv * num_blocks, block_size * width).index_select(0, index)
    return blocks.view(len(blocks_BP) * num_kv, -1, width)
