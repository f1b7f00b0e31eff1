"""What an allocator makes of a sequence of requests: the room it takes, holes included.

Both glibc and torch's CUDA allocator hand out the smallest free block that is large enough and join free neighbours; a
CPU training keeps what it freed (`genai.training.allocator`). glibc asks for more than a tensor needs, to align it, and
gives the rest back; the piece cut off in front goes to small objects of the autograd graph until the backward pass, so
that in a forward pass no hole serves for a block of its own size again. On a CPU that is a third to a half on top of
the activations.
Source: glibc 2.36, malloc/malloc.c, `_int_memalign` and `_int_malloc`.
"""

from __future__ import annotations

from bisect import bisect_left, insort


class Heap:
    """The addresses in use and free, in bytes from the heap's start.

    Args:
        granule: sizes are rounded up to a multiple of it.
        margin: asked for on top to align a block: half of it stays in front, the rest is given back.
    """

    def __init__(self, *, granule: int, margin: int) -> None:
        self.extent_bytes = 0
        """The most that the heap ever took."""
        self.pinning = False
        """Whether pieces in front of blocks are taken by small objects."""
        self._granule = granule
        self._margin = margin
        self._top = 0
        self._used: dict[int, tuple[int, int]] = {}
        self._free: list[tuple[int, int]] = []
        self._size_at: dict[int, int] = {}
        self._start_of_end: dict[int, int] = {}
        self._pinned: list[tuple[int, int]] = []

    def allocate(self, key: int, size_bytes: int) -> None:
        """Find room for a block that will be released under `key`."""
        size = -(-size_bytes // self._granule) * self._granule
        start = self._take(size + self._margin)
        front = self._margin // 2
        self._used[key] = (start + front, size)
        self._give(start + front + size, self._margin - front)
        if self.pinning:
            self._pinned.append((start, front))
        else:
            self._give(start, front)

    def release(self, key: int) -> None:
        """Free the block of `key`."""
        self._give(*self._used.pop(key))

    def unpin(self) -> None:
        """The small objects are gone."""
        self.pinning = False
        for start, size in self._pinned:
            self._give(start, size)
        self._pinned.clear()

    def _take(self, size: int) -> int:
        index = bisect_left(self._free, (size, 0))
        if index == len(self._free):
            start, self._top = self._top, self._top + size
            self.extent_bytes = max(self.extent_bytes, self._top)
            return start
        found, start = self._free[index]
        self._forget(start)
        self._give(start + size, found - size)
        return start

    def _give(self, start: int, size: int) -> None:
        if not size:
            return
        if start in self._start_of_end:
            start, size = self._start_of_end[start], size + self._forget(self._start_of_end[start])
        if start + size in self._size_at:
            size += self._forget(start + size)
        if start + size == self._top:
            self._top = start
            return
        insort(self._free, (size, start))
        self._size_at[start] = size
        self._start_of_end[start + size] = start

    def _forget(self, start: int) -> int:
        size = self._size_at.pop(start)
        del self._start_of_end[start + size]
        del self._free[bisect_left(self._free, (size, start))]
        return size
