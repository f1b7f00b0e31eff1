"""Best-fit packing with a bounded pool: several examples share a row of `capacity` tokens, and little of it is padding.

Examples enter a pool in the order of the epoch. Each row starts with the oldest example of the pool, so that none waits
for ever, and is filled by taking, again and again, the longest pooled example that still fits (of equally long ones the
oldest). Source: best-fit bin packing, after "Fewer Truncations Improve Language Modeling" (arXiv:2404.10830); the
bounded pool keeps rows near the shuffled order and the state small. An example costs two bisections and two moves in a
list of `pool_size`.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_POSITION_BITS = 40
_POSITION_MASK = (1 << _POSITION_BITS) - 1


class BestFitPacker:
    """Packs one epoch, row by row.

    `cursor` and `pool` after any row are its whole state: a new packer over the same lengths goes on from them exactly.

    Args:
        lengths: tokens of each example in the order of the epoch, shape (n,); each between 1 and `capacity`.
        capacity: tokens a row.
        pool_size: how many examples are looked at for the best fit.
        cursor: position of the next example to enter the pool.
        pool: positions that are in the pool.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        *,
        capacity: int,
        pool_size: int,
        cursor: int = 0,
        pool: Iterable[int] = (),
    ) -> None:
        if len(lengths) and not 1 <= int(lengths.min()) <= int(lengths.max()) <= capacity:
            raise ValueError(f"every example needs 1 to {capacity} tokens to be packed")
        self.cursor = cursor
        self._lengths: list[int] = lengths.tolist()
        self._capacity = capacity
        self._pool_size = pool_size
        self._oldest: deque[int] = deque(sorted(pool))
        self._pool: set[int] = set(self._oldest)
        self._by_length: list[int] = sorted(self._key(position) for position in self._oldest)

    @property
    def pool(self) -> list[int]:
        """Positions in the pool, the oldest first."""
        return sorted(self._pool)

    def next_row(self) -> list[int]:
        """Positions of the examples of the next row; empty when the epoch is over."""
        self._refill()
        if not self._by_length:
            return []
        row = [self._take_oldest()]
        room = self._capacity - self._lengths[row[0]]
        while (position := self._take_longest(room)) is not None:
            row.append(position)
            room -= self._lengths[position]
        return row

    def _key(self, position: int) -> int:
        """Sorts by length, and of equal lengths the oldest last, which is where `bisect_right` looks."""
        return self._lengths[position] << _POSITION_BITS | (_POSITION_MASK - position)

    def _refill(self) -> None:
        stop = min(len(self._lengths), self.cursor + self._pool_size - len(self._pool))
        for position in range(self.cursor, stop):
            insort(self._by_length, self._key(position))
        self._oldest.extend(range(self.cursor, stop))
        self._pool.update(range(self.cursor, stop))
        self.cursor = max(self.cursor, stop)

    def _take_oldest(self) -> int:
        while (position := self._oldest.popleft()) not in self._pool:
            pass
        self._pool.remove(position)
        del self._by_length[bisect_right(self._by_length, self._key(position)) - 1]
        return position

    def _take_longest(self, room: int) -> int | None:
        index = bisect_right(self._by_length, room << _POSITION_BITS | _POSITION_MASK) - 1
        if index < 0:
            return None
        position = _POSITION_MASK - (self._by_length.pop(index) & _POSITION_MASK)
        self._pool.remove(position)
        return position


def count_rows(lengths: NDArray[np.int64], *, capacity: int, pool_size: int) -> int:
    """How many rows an epoch over examples of these lengths packs into; shape of `lengths`: (n,)."""
    packer = BestFitPacker(lengths, capacity=capacity, pool_size=pool_size)
    rows = 0
    while packer.next_row():
        rows += 1
    return rows
