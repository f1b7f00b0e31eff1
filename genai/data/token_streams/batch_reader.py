"""Any batch of any epoch, read from the shards; what `TokenStream` and evaluation have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genai.data.batches import IGNORED, Batch
from genai.data.token_streams.mixing import choose_samples
from genai.data.token_streams.order import EpochOrder, Shuffle
from genai.data.token_streams.shard_pool import ShardPool
from genai.data.token_streams.specs import StreamSpec, check_length, fingerprint, open_source
from genai.errors import UsageError
from genai.log import get_logger

ORDER_VERSION = 1
"""Part of what a checkpoint compares: raise it when the same settings give another order."""
CHUNK_TOKENS = 1 << 16
"""Small batches are assembled several at a time, up to about so many tokens; larger arrays cost more page faults."""
_log = get_logger(__name__)


class BatchReader:
    """Assembles batches; used by one thread at a time.

    Args:
        specs: the streams that are mixed.
        seq_len: tokens a row.
        batch_size: rows of a global batch.
        shuffle: the order.
        drop_last: leave out the last batch of an epoch when it is not full (unless it is the only one).
        epoch_size: samples of an epoch, see `genai.data.token_streams.mixing`.
        rank: whose rows of each global batch are read.
        world_size: number of ranks.
        cache_dir: folder for shards that cannot be mapped where they lie.
        cache_limit_bytes: what the cache may take; None for no limit.
        predownload_shards: shards to fetch beyond those in use.
        concurrency: requests to a store at a time.
        validate_hash: a hash of index.json to compare each shard with.

    Raises:
        UsageError: the settings contradict each other or the data.
        DataError: an index is missing or damaged.
    """

    def __init__(
        self,
        specs: Sequence[StreamSpec],
        *,
        seq_len: int,
        batch_size: int,
        shuffle: Shuffle,
        drop_last: bool,
        epoch_size: int | None,
        rank: int,
        world_size: int,
        cache_dir: Path,
        cache_limit_bytes: int | None,
        predownload_shards: int,
        concurrency: int,
        validate_hash: str | None,
    ) -> None:
        if batch_size < 1 or batch_size % world_size or not 0 <= rank < world_size:
            raise UsageError(
                f"a global batch of {batch_size} rows cannot be shared by {world_size} ranks",
                fix="make global_train_batch_size a multiple of the number of ranks",
            )
        if predownload_shards < 0 or concurrency < 1:
            raise UsageError("predownload_shards must be 0 or more, concurrency 1 or more")
        sources = [open_source(spec) for spec in specs]
        check_length(sources, seq_len)
        self._sizes = [source.sizes for source in sources]
        self._chosen = choose_samples(specs, [int(sizes.sum()) for sizes in self._sizes], epoch_size)
        self._shuffle = shuffle
        self._seq_len = seq_len
        self._batch_size = batch_size
        self._drop_last = drop_last
        self._rank = rank
        self._world_size = world_size
        self.num_samples = sum(self._chosen)
        """Samples of an epoch."""
        self.fingerprint = fingerprint(sources)
        """sha256 of what the indexes say of the content."""
        # one array for all batches: nobody writes into it
        self._position_ids = np.tile(np.arange(seq_len, dtype=np.int64), (batch_size // world_size, 1))
        self._offsets = np.concatenate([[0], np.cumsum(np.concatenate(self._sizes))])
        self._orders: dict[int, EpochOrder] = {}
        self._wanted = (-1, 0, 0)
        self._pool = ShardPool(
            sources,
            seq_len=seq_len,
            cache_dir=cache_dir,
            cache_limit_bytes=cache_limit_bytes,
            predownload_shards=predownload_shards,
            concurrency=concurrency,
            validate_hash=validate_hash,
        )
        self._pool.require_room(self._order(0).largest_use(self._pool.cached_bytes))
        if drop_last and self.num_samples < batch_size:
            _log.warning("drop_last is ignored: an epoch is only %d rows, less than one batch", self.num_samples)

    @property
    def batches_in_epoch(self) -> int:
        """How many global batches a pass has."""
        full, rest = divmod(self.num_samples, self._batch_size)
        return max(1, full if self._drop_last else full + (rest > 0))

    def identity(self) -> dict[str, Any]:
        """All that decides which samples are in which batch, as JSON can hold it."""
        return {
            "order_version": ORDER_VERSION,
            "data": self.fingerprint,
            "samples": self._chosen,
            "seq_len": self._seq_len,
            "batch_size": self._batch_size,
            "drop_last": self._drop_last,
            **{f"shuffle_{name}": value for name, value in asdict(self._shuffle).items()},
        }

    def read(self, epoch: int, index: int, *, most: int | None = None) -> list[Batch]:
        """Batch `index` of an epoch, and those after it that need no other shards; not too many.

        Args:
            epoch: the pass, from 0.
            index: the global batch in it, from 0.
            most: no more batches than this.

        Raises:
            DataError: a shard is missing or damaged.
            GenaiError: a shard cannot be fetched.
        """
        order, size = self._order(epoch), self._batch_size
        start = index * size
        stop = min(start + size, self.num_samples)
        self._want(epoch, *order.units(start, stop))
        full = (order.same_use_until(stop) - start) // size
        count = max(1, min(full, CHUNK_TOKENS * self._world_size // (size * self._seq_len), most or full))
        num_rows = size if count > 1 else stop - start
        own = slice(num_rows * self._rank // self._world_size, num_rows * (self._rank + 1) // self._world_size)
        ids = order.ids(start, start + count * num_rows).reshape(count, num_rows)[:, own]
        return self._cut(ids, num_rows, epoch, index)

    def close(self) -> None:
        """Let go of all shards, also from another thread; what is being read fails."""
        self._pool.close()

    def _want(self, epoch: int, first: int, end: int) -> None:
        """Tell the pool which units are used now, and which shards come next."""
        if (epoch, first, end) != self._wanted:
            used = self._order(epoch).unit_shards[first:end].tolist()
            self._pool.want(used, self._shards_after(epoch, end))
            self._wanted = (epoch, first, end)

    def _order(self, epoch: int) -> EpochOrder:
        if epoch not in self._orders:
            self._orders = {known: order for known, order in self._orders.items() if known == epoch - 1}
            self._orders[epoch] = EpochOrder(self._sizes, self._chosen, shuffle=self._shuffle, epoch=epoch)
        return self._orders[epoch]

    def _cut(self, ids_CR: NDArray[np.int64], num_rows: int, epoch: int, index: int) -> list[Batch]:
        """The batches from `index` on.

        Args:
            ids_CR: global sample ids of C batches of R own rows.
            num_rows: rows of each over all ranks.
            epoch: the pass they belong to.
            index: the first one's.
        """
        input_ids = self._gather(ids_CR.ravel())
        labels = input_ids.copy()
        labels[:, :1] = IGNORED
        own_rows, last = ids_CR.shape[1], self.batches_in_epoch - 1
        return [
            Batch(
                input_ids=input_ids[number * own_rows : (number + 1) * own_rows],
                labels=labels[number * own_rows : (number + 1) * own_rows],
                position_ids=self._position_ids[:own_rows],
                num_tokens=num_rows * self._seq_len,
                num_trained_tokens=num_rows * (self._seq_len - 1),
                num_examples=num_rows,
                row_ids=tuple((sample,) for sample in ids.tolist()),
                epoch=epoch,
                ends_epoch=index + number == last,
            )
            for number, ids in enumerate(ids_CR)
        ]

    def _shards_after(self, epoch: int, unit: int) -> list[int]:
        """A few shards in order of first use from `unit` on, also those of the next epoch."""
        count = self._pool.shards_ahead
        soon: list[int] = self._order(epoch).unit_shards[unit : unit + count].tolist()
        if len(soon) < count:
            soon += self._order(epoch + 1).unit_shards[: count - len(soon)].tolist()
        return soon

    def _gather(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The tokens of samples, shape (len(ids), seq_len); those of one shard are copied together."""
        shards = np.searchsorted(self._offsets, ids, side="right") - 1
        tokens = np.empty((len(ids), self._seq_len), dtype=np.int64)
        for shard in np.unique(shards).tolist():
            places = np.flatnonzero(shards == shard)
            rows = ids[places] - self._offsets[shard]
            tokens[places] = self._pool.block(shard).gather(rows, self._seq_len)
        return tokens
