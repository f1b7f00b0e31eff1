"""The shards that are in use or soon will be: mapped in place, or fetched into the cache ahead of time.

A shard of a folder on this machine is memory-mapped where it lies. One of a bucket, or a compressed one, is brought
into a `SizedCache`, which all ranks of a host share, so that each shard is fetched once. Its lock is held only until it
is mapped: who waits for room holds nothing that others wait for, and a map outlives the eviction of its file (which
then takes its place on the disk until the map is let go). Shards leave use in the order in which they were opened, so
what is evicted is what is no longer used, unless ranks are far apart.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genai.data.mds.blocks import TokenBlock, token_block
from genai.data.mds.shard import Shard, check_stored, map_file
from genai.data.mds.shard_info import ShardInfo
from genai.data.token_streams.download import download_shard
from genai.data.token_streams.specs import TOKENS, Source, check_row_length
from genai.errors import UsageError
from genai.storage.sized_cache import SizedCache

MAX_OPENERS = 4
"""Shards that are fetched or opened at the same time."""
SPARE_SHARDS = 2
"""Room in the cache that is left to ranks that are a step behind and still use a shard more."""


class ShardPool:
    """Opens shards ahead of time and keeps those open that were asked for last. Used by one thread.

    Args:
        sources: the streams; shards are numbered through all of them.
        seq_len: tokens that every row must have.
        cache_dir: folder of the cache.
        cache_limit_bytes: what it may take; None for no limit.
        predownload_shards: shards to fetch beyond those in use.
        concurrency: requests to a store at a time.
        validate_hash: a hash to compare each shard with when it is opened.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        seq_len: int,
        cache_dir: Path,
        cache_limit_bytes: int | None,
        predownload_shards: int,
        concurrency: int,
        validate_hash: str | None,
    ) -> None:
        self._shards = [(source, shard) for source in sources for shard in source.shards]
        self._seq_len = seq_len
        self._cache = SizedCache(cache_dir, cache_limit_bytes)
        self._limit = cache_limit_bytes
        self.shards_ahead = predownload_shards
        """How many shards beyond those in use are fetched, where the cache has room."""
        self._validate_hash = validate_hash
        self._openers = ThreadPoolExecutor(min(max(predownload_shards, 1), MAX_OPENERS), "open-shard")
        self._requests = ThreadPoolExecutor(concurrency, "read-shard")
        self._opening: dict[int, Future[TokenBlock]] = {}
        self._lock = threading.Lock()
        self._closed = False
        self.cached_bytes: NDArray[np.int64] = np.array(
            [0 if source.is_in_place(shard) else shard.raw_data.size_bytes for source, shard in self._shards],
            dtype=np.int64,
        )
        """What each shard takes in the cache, shape (shards,); 0 for one that is mapped where it lies."""

    def require_room(self, use_bytes: int) -> None:
        """Check that shards of `use_bytes` together fit into the cache at one time, with some to spare.

        Raises:
            UsageError: they do not.
        """
        needed = use_bytes + SPARE_SHARDS * int(self.cached_bytes.max(initial=0))
        if self._limit is not None and use_bytes and needed > self._limit:
            raise UsageError(
                f"a cache limit of {self._limit} bytes is too small: {needed} bytes of shards can be in use at a time",
                fix=f"set it to {needed} or more, lower shuffle_block_size, or write smaller shards",
            )

    def want(self, used: Sequence[int], ahead: Sequence[int]) -> None:
        """Say which shards are used now and which ones next; all others are let go.

        Args:
            used: shards of the next batch.
            ahead: those after them, in order of first use; the first `predownload_shards` that fit are fetched.

        Raises:
            UsageError: the cache cannot hold those that are used.
        """
        now = list(dict.fromkeys(used))
        soon = [shard for shard in dict.fromkeys(ahead) if shard not in set(now)]
        self.require_room(int(self.cached_bytes[now].sum()))
        wanted = [*now, *self._fitting(now, soon[: self.shards_ahead])]
        for shard in self._opening.keys() - set(wanted):
            self._opening.pop(shard).cancel()
        with self._lock:
            for shard in wanted:
                if shard not in self._opening and not self._closed:
                    self._opening[shard] = self._openers.submit(self._open, shard)

    def block(self, shard: int) -> TokenBlock:
        """The rows of a shard that is wanted, once they are there.

        Raises:
            DataError: it is missing or damaged.
            GenaiError: it cannot be fetched.
        """
        return self._opening[shard].result()

    def close(self) -> None:
        """End all fetching. May be called from another thread."""
        with self._lock:
            self._closed = True
        self._openers.shutdown(wait=False, cancel_futures=True)
        self._requests.shutdown(wait=False, cancel_futures=True)
        self._openers.shutdown(wait=True)
        self._requests.shutdown(wait=True)

    def _fitting(self, now: Sequence[int], soon: Sequence[int]) -> list[int]:
        """As many of `soon` as the cache has room for beside `now`."""
        if self._limit is None:
            return list(soon)
        room = self._limit - SPARE_SHARDS * int(self.cached_bytes.max(initial=0)) - int(self.cached_bytes[now].sum())
        taken = np.cumsum(self.cached_bytes[list(soon)])
        return list(soon[: int(np.searchsorted(taken, room, side="right"))])

    def _open(self, number: int) -> TokenBlock:
        source, info = self._shards[number]
        where = source.url_of(info)
        path = source.store.local_path(info.raw_data.basename) if source.is_in_place(info) else None
        if path is None:
            with self._cached(source, info) as path:
                data = map_file(path, info.raw_data)
        else:
            data = map_file(path, info.raw_data)
            check_stored(data, info, where, validate_hash=self._validate_hash)
        data.madvise(mmap.MADV_WILLNEED)  # rows are read in random order: let the disk read ahead by itself
        block = token_block(Shard(data, info, where), TOKENS)
        check_row_length(block.seq_len, self._seq_len, where)
        return block

    def _cached(self, source: Source, info: ShardInfo) -> AbstractContextManager[Path]:
        """The shard's file in the cache, fetched where it is not there."""
        return self._cache.use(
            f"{source.url_of(info)}@{source.version}",
            info.raw_data.size_bytes,
            lambda path: download_shard(source.store, info, path, self._requests, validate_hash=self._validate_hash),
        )
