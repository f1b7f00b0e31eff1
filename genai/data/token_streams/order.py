"""The order of the samples in an epoch: a pure function of (seed, epoch), found piece by piece.

What py1e of mosaicml-streaming promises (streaming/base/shuffle/py1e.py: shards in random order, each one's samples
spread over a range of `shuffle_block_size`) is kept here by a scheme that needs no permutation of all samples, so that
any place of any epoch is found in constant time, and in memory for the shards but not for the samples:

1. The shards are put in random order, anew each epoch; those of several streams are interleaved evenly. Consecutive
   shards form groups of at least a 32nd of `shuffle_block_size` samples, or of 4 shards (one large shard is a group).
2. Each group is permuted and cut into K equal parts, K being as many groups as fill `shuffle_block_size`, at most 32.
3. Slot t consists of part 0 of group t, part 1 of group t - 1, ..., part K-1 of group t - K+1, permuted once more.

So at most K groups are in use at a time, one new group is needed for each one used up, and the first batch needs only
the first group. Permutations sort the raw numbers of PCG64, as `genai.data.batches.epoch_order` does.

Shape legend: U units (a shard, whole or a part of it, once), G groups, S = G + K - 1 slots, N samples in the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genai.errors import UsageError

SHUFFLE_ALGOS = ("py1e", "py1br", "py1b", "py1s", "py2s")
"""Names that are accepted: the first three mean the scheme above, the last two the same within shards (K = 1)."""
MAX_PARTS = 32
MAX_GROUP_UNITS = 4
"""So that no more than 128 shards are in use, each of which takes file descriptors, however small they are."""
_UNITS, _SPREAD, _PARTIAL, _OFFSET, _GROUP, _SLOT = range(6)


@dataclass(frozen=True, kw_only=True)
class Shuffle:
    """How far samples are moved."""

    seed: int
    block_size: int
    """Samples that are in use at a time, about; 1 shuffles within each shard; 0 does not shuffle at all."""


def shuffle_settings(*, shuffle: bool, algo: str, block_size: int, seed: int) -> Shuffle:
    """What `shuffle`, `shuffle_algo`, `shuffle_block_size` and `shuffle_seed` of a job file mean.

    Raises:
        UsageError: there is no such algorithm, or the block size is not positive.
    """
    if algo not in SHUFFLE_ALGOS:
        why = ": it needs all shards at once" if algo == "naive" else ""
        raise UsageError(
            f"the shuffle_algo {algo!r} is not supported{why}", fix=f"choose one of {', '.join(SHUFFLE_ALGOS)}"
        )
    if block_size < 1:
        raise UsageError(f"a shuffle_block_size of {block_size} holds no sample", fix="give 1 or more")
    if not shuffle:
        return Shuffle(seed=seed, block_size=0)
    return Shuffle(seed=seed, block_size=1 if algo in ("py1s", "py2s") else block_size)


class EpochOrder:
    """The samples of one epoch in order, as global sample ids: those of the first shard first, from 0.

    Args:
        sizes: for each stream the samples of its shards, shape (shards,).
        chosen: how many samples of each stream the epoch has.
        shuffle: how they are shuffled.
        epoch: which pass, from 0.
    """

    def __init__(
        self, sizes: Sequence[NDArray[np.int64]], chosen: Sequence[int], *, shuffle: Shuffle, epoch: int
    ) -> None:
        self._shuffle = shuffle
        self._epoch = epoch
        self._sizes = np.concatenate(sizes)
        self._offsets = np.concatenate([[0], np.cumsum(self._sizes)])
        self._counts: NDArray[np.int64]
        self.unit_shards: NDArray[np.int64]
        """The shard of each unit in order of first use, shape (U,)."""
        self.unit_shards, self._counts = self._arrange(sizes, chosen)
        self._group_starts = _group_starts(self._counts, shuffle.block_size)
        group_sizes = np.add.reduceat(self._counts, self._group_starts[:-1])
        blocks = round(shuffle.block_size * len(group_sizes) / int(group_sizes.sum()))
        self.num_parts = max(1, min(blocks, MAX_PARTS, len(group_sizes)))
        self._slot_starts = _slot_starts(group_sizes, self.num_parts)
        self._groups: dict[int, NDArray[np.int64]] = {}
        self._slots: dict[int, NDArray[np.int64]] = {}

    @property
    def num_samples(self) -> int:
        """N, the samples of the epoch."""
        return int(self._slot_starts[-1])

    def ids(self, start: int, stop: int) -> NDArray[np.int64]:
        """The global sample ids at the places `start` to `stop` of the epoch, shape (stop - start,)."""
        first, last = self._slots_of(start, stop)
        pieces = [self._slot(slot) for slot in range(first, last + 1)]
        base = int(self._slot_starts[first])
        joined = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        return joined[start - base : stop - base]

    def same_use_until(self, stop: int) -> int:
        """The place up to which no other units are needed than before the place `stop`: the end of its slot."""
        return int(self._slot_starts[self._slots_of(stop - 1, stop)[1] + 1])

    def units(self, start: int, stop: int) -> tuple[int, int]:
        """The units, first and end, that are in use at the places `start` to `stop`."""
        first, last = self._slots_of(start, stop)
        num_groups = len(self._group_starts) - 1
        oldest, newest = max(0, first - self.num_parts + 1), min(last, num_groups - 1)
        return int(self._group_starts[oldest]), int(self._group_starts[newest + 1])

    def largest_use(self, shard_bytes: NDArray[np.int64]) -> int:
        """The most bytes that the shards of two slots in a row take, which is what a batch needs.

        Args:
            shard_bytes: bytes of each shard, shape (shards,).
        """
        group_bytes = np.add.reduceat(shard_bytes[self.unit_shards], self._group_starts[:-1])
        sums = np.convolve(group_bytes, np.ones(self.num_parts + 1, dtype=np.int64))
        return int(sums.max())

    def _slots_of(self, start: int, stop: int) -> tuple[int, int]:
        if not 0 <= start < stop <= self.num_samples:
            raise IndexError(f"{start}:{stop} is outside of an epoch of {self.num_samples} samples")
        found = np.searchsorted(self._slot_starts, [start, stop - 1], side="right") - 1
        return int(found[0]), int(found[1])

    def _numbers(self, count: int, purpose: int, index: int) -> NDArray[np.uint64]:
        """Random numbers that depend on nothing but their arguments, the seed and the epoch."""
        entropy = [self._shuffle.seed & (2**64 - 1), self._epoch, purpose, index]
        return np.random.PCG64(np.random.SeedSequence(entropy)).random_raw(count)

    def _permute(self, ids: NDArray[np.int64], purpose: int, index: int) -> NDArray[np.int64]:
        if not self._shuffle.block_size:
            return ids
        return ids[np.argsort(self._numbers(len(ids), purpose, index), kind="stable")]

    def _arrange(
        self, sizes: Sequence[NDArray[np.int64]], chosen: Sequence[int]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Shard and number of samples of each unit, in order; every stream is spread evenly over the epoch."""
        shards, counts, places = [], [], []
        first_shard = 0
        for stream, (stream_sizes, wanted) in enumerate(zip(sizes, chosen, strict=True)):
            unit_shards, unit_counts, passes = self._units_of(stream, stream_sizes, wanted)
            if self._shuffle.block_size:
                order = np.lexsort((self._numbers(len(passes), _UNITS, stream), passes))
                unit_shards, unit_counts = unit_shards[order], unit_counts[order]
            shards.append(unit_shards + first_shard)
            counts.append(unit_counts)
            places.append(self._places(stream, unit_counts))
            first_shard += len(stream_sizes)
        order = np.argsort(np.concatenate(places), kind="stable")
        return np.concatenate(shards)[order], np.concatenate(counts)[order]

    def _units_of(
        self, stream: int, sizes: NDArray[np.int64], wanted: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Shard, samples and pass of each unit of a stream: as many whole passes as fit, then a part of each shard.

        That part is the same share of every shard, rounded so that it sums up; which samples it has, is drawn anew each
        epoch.
        """
        total = int(sizes.sum())
        whole, rest = divmod(wanted, total) if total else (0, 0)
        offset = int(self._numbers(1, _OFFSET, stream)[0]) % total if rest else 0
        ends = [int(end) * rest + offset for end in np.concatenate([[0], np.cumsum(sizes)])]
        parts = np.diff(np.array([end // total for end in ends] if rest else [0] * len(ends), dtype=np.int64))
        counts = np.concatenate([np.tile(sizes, whole), parts])
        shards = np.tile(np.arange(len(sizes)), whole + 1)
        passes = np.repeat(np.arange(whole + 1), len(sizes))
        kept = counts > 0
        return shards[kept], counts[kept], passes[kept]

    def _places(self, stream: int, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Where in the epoch each unit of a stream goes: from 0 to 1 when shuffled, else one stream after the other."""
        if not self._shuffle.block_size:
            return np.full(len(counts), float(stream))
        within = self._numbers(len(counts), _SPREAD, stream) / 2.0**64
        before = np.cumsum(counts) - counts
        return np.asarray((before + within * counts) / max(int(counts.sum()), 1), dtype=np.float64)

    def _unit(self, unit: int) -> NDArray[np.int64]:
        """The sample ids of a unit, sorted."""
        shard = int(self.unit_shards[unit])
        size, count = int(self._sizes[shard]), int(self._counts[unit])
        first = int(self._offsets[shard])
        ids = np.arange(first, first + size, dtype=np.int64)
        if count == size:
            return ids
        drawn = np.argsort(self._numbers(size, _PARTIAL, shard), kind="stable")[:count]
        return ids[np.sort(drawn)]

    def _group(self, group: int) -> NDArray[np.int64]:
        if group not in self._groups:
            units = range(int(self._group_starts[group]), int(self._group_starts[group + 1]))
            ids = np.concatenate([self._unit(unit) for unit in units])
            self._groups[group] = self._permute(ids, _GROUP, group)
            for old in [other for other in self._groups if abs(other - group) > 2 * self.num_parts]:
                del self._groups[old]
        return self._groups[group]

    def _slot(self, slot: int) -> NDArray[np.int64]:
        if slot not in self._slots:
            num_groups, parts = len(self._group_starts) - 1, []
            for part in range(self.num_parts):
                if 0 <= slot - part < num_groups:
                    ids = self._group(slot - part)
                    start, end = (len(ids) * edge // self.num_parts for edge in (part, part + 1))
                    parts.append(ids[start:end])
            self._slots[slot] = self._permute(np.concatenate(parts), _SLOT, slot)
            for old in [other for other in self._slots if abs(other - slot) > 2]:
                del self._slots[old]
        return self._slots[slot]


def _group_starts(counts: NDArray[np.int64], block_size: int) -> NDArray[np.int64]:
    """The first unit of each group, and the number of units; shape (G + 1,)."""
    least = max(1, block_size // MAX_PARTS)
    starts, filled = [0], 0
    for unit, count in enumerate(counts.tolist(), 1):
        filled += count
        if (filled >= least or unit - starts[-1] == MAX_GROUP_UNITS) and unit < len(counts):
            starts.append(unit)
            filled = 0
    return np.array([*starts, len(counts)], dtype=np.int64)


def _slot_starts(group_sizes: NDArray[np.int64], num_parts: int) -> NDArray[np.int64]:
    """The place in the epoch at which each slot begins, and N; shape (S + 1,)."""
    sizes = np.zeros(len(group_sizes) + num_parts - 1, dtype=np.int64)
    for part in range(num_parts):
        edges = group_sizes * part // num_parts, group_sizes * (part + 1) // num_parts
        sizes[part : part + len(group_sizes)] += edges[1] - edges[0]
    return np.concatenate([[0], np.cumsum(sizes)])
