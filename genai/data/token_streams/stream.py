"""Training batches from shards of tokens: each rank gets its rows of the same global batches, however many ranks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from genai.data.batches import Batch, check_identity
from genai.data.token_streams.batch_reader import BatchReader
from genai.data.token_streams.order import shuffle_settings
from genai.data.token_streams.read_ahead import ReadAhead
from genai.data.token_streams.specs import StreamSpec

CHUNKS_AHEAD = 2


class TokenStream:
    """Batches without end, epoch after epoch; meets the interface of `genai.data.batches.BatchStream`.

    Which samples a global batch has, and in which order, depends on the data, the seed and the epoch alone: not on the
    ranks, the cache, or where the shards lie. Reading begins with the first `next_batch`, in the background.

    Args:
        specs: the streams that are mixed.
        seq_len: tokens a row; longer rows of the shards are cut, as llm-foundry does.
        global_batch_size: rows of a batch over all ranks, a multiple of `world_size`.
        seed: of the order.
        shuffle: a new order each epoch; False is the order of the streams and their shards.
        shuffle_algo: one of `SHUFFLE_ALGOS`.
        shuffle_block_size: samples over which each shard's samples are spread, about.
        drop_last: leave out the last batch of an epoch when it is not full (unless it is the only one).
        epoch_size: samples of an epoch, see `genai.data.token_streams.mixing`.
        rank: whose rows `next_batch` gives: rows rank*B/world_size up to (rank+1)*B/world_size of each global batch.
        world_size: number of ranks.
        cache_dir: folder for shards that cannot be mapped where they lie; ranks and jobs may share it.
        cache_limit_bytes: what the cache may take; None for no limit.
        predownload_shards: shards to fetch beyond those in use.
        concurrency: requests to a store at a time.
        validate_hash: a hash of index.json to compare each shard with, e.g. `sha1`.

    Raises:
        UsageError: the settings contradict each other or the data.
        DataError: an index is missing or damaged.
    """

    def __init__(
        self,
        specs: Sequence[StreamSpec],
        *,
        seq_len: int,
        global_batch_size: int,
        seed: int,
        shuffle: bool = True,
        shuffle_algo: str = "py1e",
        shuffle_block_size: int = 1 << 18,
        drop_last: bool = True,
        epoch_size: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        cache_dir: Path,
        cache_limit_bytes: int | None = None,
        predownload_shards: int = 4,
        concurrency: int = 8,
        validate_hash: str | None = None,
    ) -> None:
        self._reader = BatchReader(
            specs,
            seq_len=seq_len,
            batch_size=global_batch_size,
            shuffle=shuffle_settings(shuffle=shuffle, algo=shuffle_algo, block_size=shuffle_block_size, seed=seed),
            drop_last=drop_last,
            epoch_size=epoch_size,
            rank=rank,
            world_size=world_size,
            cache_dir=cache_dir,
            cache_limit_bytes=cache_limit_bytes,
            predownload_shards=predownload_shards,
            concurrency=concurrency,
            validate_hash=validate_hash,
        )
        self._epoch = 0
        self._batch_in_epoch = 0
        self._ahead: ReadAhead[list[Batch]] | None = None
        self._ready: deque[Batch] = deque()

    @property
    def num_samples(self) -> int:
        """Samples of an epoch."""
        return self._reader.num_samples

    @property
    def fingerprint(self) -> str:
        """sha256 of what the indexes say of the content."""
        return self._reader.fingerprint

    @property
    def epoch(self) -> int:
        """The pass that the next batch belongs to, from 0."""
        return self._epoch

    @property
    def batch_in_epoch(self) -> int:
        """How many batches of this pass were given out."""
        return self._batch_in_epoch

    def batches_in_epoch(self, epoch: int) -> int:
        """How many global batches a pass has, the same in all."""
        return self._reader.batches_in_epoch

    def next_batch(self) -> Batch:
        """The rows of this rank of the next global batch; the counts of tokens and examples are those of all ranks.

        Raises:
            DataError: a shard is missing or damaged.
            GenaiError: a shard cannot be fetched.
        """
        if self._ahead is None:
            chunks = self._chunks(self._epoch, self._batch_in_epoch)
            self._ahead = ReadAhead(chunks, depth=CHUNKS_AHEAD, name="token-stream")
        if not self._ready:
            self._ready.extend(self._ahead.take())
        batch = self._ready.popleft()
        self._batch_in_epoch += 1
        if batch.ends_epoch:
            self._epoch, self._batch_in_epoch = self._epoch + 1, 0
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on from here with any number of ranks, as JSON can hold it."""
        return {"identity": self._reader.identity(), "epoch": self._epoch, "batch_in_epoch": self._batch_in_epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken; takes as long at any place.

        Raises:
            UsageError: the data or the settings that decide its order are others than then.
        """
        check_identity(state["identity"], self._reader.identity())
        self._stop_reading()
        self._epoch, self._batch_in_epoch = int(state["epoch"]), int(state["batch_in_epoch"])

    def close(self) -> None:
        """End reading ahead and let go of all shards. The stream cannot be used afterwards."""
        if self._ahead is not None:
            self._ahead.stop()
        self._reader.close()
        self._stop_reading()

    def _stop_reading(self) -> None:
        if self._ahead is not None:
            self._ahead.stop()
            self._ahead.join()
            self._ahead = None
        self._ready.clear()

    def _chunks(self, epoch: int, index: int) -> Iterator[list[Batch]]:
        """All batches from one on, a few at a time."""
        while True:
            while index < self._reader.batches_in_epoch:
                chunk = self._reader.read(epoch, index)
                yield chunk
                index += len(chunk)
            epoch, index = epoch + 1, 0
