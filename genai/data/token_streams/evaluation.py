"""One pass over shards of tokens, in order, for evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from genai.data.batches import Batch
from genai.data.token_streams.batch_reader import BatchReader
from genai.data.token_streams.order import Shuffle
from genai.data.token_streams.read_ahead import ReadAhead
from genai.data.token_streams.specs import StreamSpec

BATCHES_AHEAD = 2


def token_eval_batches(
    specs: Sequence[StreamSpec],
    *,
    seq_len: int,
    batch_size: int,
    cache_dir: Path,
    num_batches: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    cache_limit_bytes: int | None = None,
    validate_hash: str | None = None,
) -> Iterator[Batch]:
    """The batches of a rank in one pass over all samples, in the order in which they are stored.

    Args:
        specs: the streams.
        seq_len: tokens a row.
        batch_size: rows of a batch, which belongs to one rank as a whole; its counts are its own.
        cache_dir: folder for shards that cannot be mapped where they lie.
        num_batches: end after so many, of all ranks together; None for all.
        rank: whose batches are wanted.
        world_size: among how many ranks they are dealt out, one each in turn.
        cache_limit_bytes: what the cache may take; None for no limit.
        validate_hash: a hash to compare each shard with.

    Raises:
        UsageError: the settings contradict each other or the data.
        DataError: an index or a shard is missing or damaged.
    """
    reader = BatchReader(
        specs,
        seq_len=seq_len,
        batch_size=batch_size,
        shuffle=Shuffle(seed=0, block_size=0),
        drop_last=False,
        epoch_size=None,
        rank=0,
        world_size=1,
        cache_dir=cache_dir,
        cache_limit_bytes=cache_limit_bytes,
        predownload_shards=2,
        concurrency=8,
        validate_hash=validate_hash,
    )
    count = reader.batches_in_epoch if num_batches is None else min(num_batches, reader.batches_in_epoch)
    return _read_all(reader, range(rank, count, world_size))


def _read_all(reader: BatchReader, indices: range) -> Iterator[Batch]:
    batches = (reader.read(0, index, most=1)[0] for index in indices)
    ahead = ReadAhead(batches, depth=BATCHES_AHEAD, name="token-eval")
    try:
        for _ in indices:
            yield ahead.take()
    finally:
        ahead.stop()
        reader.close()
        ahead.join()
