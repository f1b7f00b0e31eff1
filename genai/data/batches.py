"""Batches for training and evaluation, cut from tokenised rows; a training stream can be saved and continued exactly.

The order of an epoch is a pure function of (seed, epoch): the rows are sorted by the raw 64-bit numbers of numpy's
`PCG64(SeedSequence([seed, epoch]))`, a stream that numpy promises never to change (NEP 19), unlike
`Generator.permutation`. Without shuffling it is the order of the file. With packing, `genai.data.packing` then puts
examples together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from genai.data.packing import BestFitPacker, count_rows
from genai.data.tokenized import TokenizedRows
from genai.errors import UsageError
from genai.log import get_logger

IGNORED = -100
"""Label of a token without a loss; the value that torch's cross-entropy leaves out."""
_MULTIPLE = 8
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of equal length. Several examples may share a row; positions that restart at 0 tell them apart.

    On many ranks the arrays hold the rows of one rank, and the counts are those of the global batch.
    """

    input_ids: NDArray[np.int64]
    """Token ids, shape (batch, seq)."""
    labels: NDArray[np.int64]
    """The token ids again, not shifted, -100 where nothing is trained; shape (batch, seq)."""
    position_ids: NDArray[np.int64]
    """Positions within each example; the padding of a row is an example of its own. Shape (batch, seq)."""
    num_tokens: int
    """Tokens that are no padding."""
    num_trained_tokens: int
    """Labels that are not -100."""
    num_examples: int
    """Examples in all rows, of all ranks."""
    row_ids: tuple[tuple[int, ...], ...]
    """For each row, the indices of its examples in the tokenised rows."""
    epoch: int = 0
    """Which pass over the data this batch belongs to, from 0."""
    ends_epoch: bool = False
    """Whether it is the last one of that pass."""


def epoch_order(num_examples: int, *, seed: int, epoch: int, shuffle: bool = True) -> NDArray[np.int64]:
    """The order of the examples in an epoch, shape (num_examples,)."""
    if not shuffle:
        return np.arange(num_examples, dtype=np.int64)
    # SeedSequence takes no negative numbers; the mask keeps every other seed as it is.
    numbers = np.random.PCG64(np.random.SeedSequence([seed & (2**64 - 1), epoch])).random_raw(num_examples)
    return np.argsort(numbers, kind="stable")


def check_identity(saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Hold what a stream is made of against what a checkpoint's was.

    Args:
        saved: name -> value, as the checkpoint has it.
        own: the same of the stream that shall go on.

    Raises:
        UsageError: they differ; names what changed.
    """
    different = sorted(key for key in own if saved.get(key) != own[key])
    if different:
        raise UsageError(
            f"the training data is not what the checkpoint was made with: {', '.join(different)} changed",
            fix="put it back, or start a new run (--run-name) that takes the weights by load_path",
        )


class BatchStream:
    """Training batches without end, epoch after epoch.

    Args:
        rows: the examples.
        max_seq_len: longest row in tokens; with packing every row has this length.
        batch_size: rows a batch.
        packing: put several examples into a row.
        shuffle: a new order each epoch.
        seed: of that order.
        drop_last: leave out the last batch of an epoch when it is not full (unless it is the only one).
        pad_token_id: fills the end of a row.
        pool_size: examples that packing looks at for the best fit.
        rank: whose rows of each batch are wanted.
        world_size: among how many ranks a batch is divided; which rows are in it does not depend on this.

    Raises:
        UsageError: there is no example.
        ValueError: an example is longer than max_seq_len; they are cut when they are tokenised.
    """

    def __init__(
        self,
        rows: TokenizedRows,
        *,
        max_seq_len: int,
        batch_size: int,
        packing: bool,
        shuffle: bool,
        seed: int,
        drop_last: bool,
        pad_token_id: int,
        pool_size: int = 2048,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not len(rows):
            raise UsageError("there are no rows to train on", fix="look at train_loader.dataset and data.split")
        if int(rows.lengths.max()) > max_seq_len:
            raise ValueError(f"an example has {int(rows.lengths.max())} tokens, more than max_seq_len {max_seq_len}")
        self._rows = rows
        self._max_seq_len = max_seq_len
        self._batch_size = batch_size
        self._packing = packing
        self._shuffle = shuffle
        self._seed = seed
        self._drop_last = drop_last
        self._pad_token_id = pad_token_id
        # Without packing a row is one example, which a pool of one gives when every example fills its row.
        self._capacity = max_seq_len if packing else 1
        self._pool_size = pool_size if packing else 1
        self._rank, self._world_size = rank, world_size
        self._batches_in_epoch: dict[int, int] = {}
        self._epoch: int
        self._batch_in_epoch: int
        self._order: NDArray[np.int64]
        self._packer: BestFitPacker
        self._start_epoch(0)
        if drop_last and self._count_rows(0) < batch_size:
            _log.warning("drop_last is ignored: an epoch is only %d rows, less than one batch", self._count_rows(0))

    @property
    def epoch(self) -> int:
        """The pass that the next batch belongs to, from 0."""
        return self._epoch

    @property
    def batch_in_epoch(self) -> int:
        """How many batches of this pass were given out."""
        return self._batch_in_epoch

    def batches_in_epoch(self, epoch: int) -> int:
        """How many batches a pass has; with packing it is found by packing the lengths, once."""
        if epoch not in self._batches_in_epoch:
            num_rows = self._count_rows(epoch)
            full, rest = divmod(num_rows, self._batch_size)
            self._batches_in_epoch[epoch] = max(1, full if self._drop_last else full + (rest > 0))
        return self._batches_in_epoch[epoch]

    def next_batch(self) -> Batch:
        """The next batch."""
        row_ids: list[tuple[int, ...]] = []
        while len(row_ids) < self._batch_size and (positions := self._packer.next_row()):
            row_ids.append(tuple(self._order[positions].tolist()))
        epoch, self._batch_in_epoch = self._epoch, self._batch_in_epoch + 1
        ends_epoch = self._batch_in_epoch == self.batches_in_epoch(epoch)
        if ends_epoch:
            self._start_epoch(epoch + 1)
        seq_len = self._max_seq_len if self._packing else _row_length(self._rows, row_ids, self._max_seq_len)
        batch = assemble(
            self._rows,
            rows_of_rank(row_ids, self._rank, self._world_size),
            seq_len=seq_len,
            pad_token_id=self._pad_token_id,
            epoch=epoch,
            ends_epoch=ends_epoch,
        )
        return batch if self._world_size == 1 else _with_global_counts(batch, self._rows, row_ids)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on from here, as JSON can hold it: epoch, batch, the packer's cursor and pool."""
        return {
            "identity": self._identity(),
            "epoch": self._epoch,
            "batch_in_epoch": self._batch_in_epoch,
            "cursor": self._packer.cursor,
            "pool": self._packer.pool,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            UsageError: the rows or the settings that decide their order are others than then.
        """
        check_identity(state["identity"], self._identity())
        self._start_epoch(int(state["epoch"]), cursor=int(state["cursor"]), pool=state["pool"])
        self._batch_in_epoch = int(state["batch_in_epoch"])

    def _identity(self) -> dict[str, Any]:
        return {
            "rows": self._rows.fingerprint,
            "max_seq_len": self._max_seq_len,
            "batch_size": self._batch_size,
            "packing": self._packing,
            "shuffle": self._shuffle,
            "seed": self._seed,
            "drop_last": self._drop_last,
            "pool_size": self._pool_size,
        }

    def _start_epoch(self, epoch: int, *, cursor: int = 0, pool: Sequence[int] = ()) -> None:
        self._epoch = epoch
        self._batch_in_epoch = 0
        self._order = epoch_order(len(self._rows), seed=self._seed, epoch=epoch, shuffle=self._shuffle)
        self._packer = BestFitPacker(
            self._lengths(self._order), capacity=self._capacity, pool_size=self._pool_size, cursor=cursor, pool=pool
        )

    def _lengths(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._rows.lengths[order] if self._packing else np.ones(len(order), dtype=np.int64)

    def _count_rows(self, epoch: int) -> int:
        if not self._packing:
            return len(self._rows)
        order = epoch_order(len(self._rows), seed=self._seed, epoch=epoch, shuffle=self._shuffle)
        return count_rows(self._lengths(order), capacity=self._capacity, pool_size=self._pool_size)


RowIds = TypeVar("RowIds")


def rows_of_rank(rows: Sequence[RowIds], rank: int, world_size: int) -> Sequence[RowIds]:
    """The rows of a global batch that are this rank's: neighbours, at most one more than another rank has."""
    return rows[rank * len(rows) // world_size : (rank + 1) * len(rows) // world_size]


def _with_global_counts(batch: Batch, rows: TokenizedRows, row_ids: Sequence[tuple[int, ...]]) -> Batch:
    examples = [index for ids in row_ids for index in ids]
    return replace(
        batch,
        num_tokens=int(rows.lengths[examples].sum()),
        num_trained_tokens=int(rows.trained_counts[examples].sum()),
        num_examples=len(examples),
    )


def eval_batches(
    rows: TokenizedRows, *, max_seq_len: int, batch_size: int, pad_token_id: int, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """One pass over the rows, one example a row, the longest first, so that little is padding and memory peaks at once.

    Args:
        rows: the examples.
        max_seq_len: longest row in tokens.
        batch_size: rows a batch.
        pad_token_id: fills the end of a row.
        rank: whose batches are wanted; their counts are their own.
        world_size: among how many ranks the batches are dealt out, one each in turn.
    """
    order = np.argsort(-rows.lengths, kind="stable").tolist()
    for start in range(rank * batch_size, len(order), world_size * batch_size):
        row_ids = [(index,) for index in order[start : start + batch_size]]
        seq_len = _row_length(rows, row_ids, max_seq_len)
        last = start + batch_size >= len(order)
        yield assemble(rows, row_ids, seq_len=seq_len, pad_token_id=pad_token_id, ends_epoch=last)


def assemble(
    rows: TokenizedRows,
    row_ids: Sequence[tuple[int, ...]],
    *,
    seq_len: int,
    pad_token_id: int,
    epoch: int = 0,
    ends_epoch: bool = False,
) -> Batch:
    """Put examples side by side into rows of `seq_len`.

    Args:
        rows: where the examples come from.
        row_ids: for each row, the examples in it.
        seq_len: tokens a row.
        pad_token_id: fills the end of a row.
        epoch: which pass over the data this is.
        ends_epoch: whether it is the last batch of that pass.
    """
    shape = (len(row_ids), seq_len)
    input_ids = np.full(shape, pad_token_id, dtype=np.int64)
    trained = np.zeros(shape, dtype=np.bool_)
    position_ids = np.empty(shape, dtype=np.int64)
    positions = np.arange(seq_len, dtype=np.int64)
    num_tokens = 0
    for row, examples in enumerate(row_ids):
        start = 0
        for index in examples:
            token_ids, flags = rows.example(index)
            stop = start + len(token_ids)
            input_ids[row, start:stop] = token_ids
            trained[row, start:stop] = flags
            position_ids[row, start:stop] = positions[: stop - start]
            start = stop
        position_ids[row, start:] = positions[: seq_len - start]
        num_tokens += start
    return Batch(
        input_ids=input_ids,
        labels=np.where(trained, input_ids, IGNORED),
        position_ids=position_ids,
        num_tokens=num_tokens,
        num_trained_tokens=int(trained.sum()),
        num_examples=sum(len(examples) for examples in row_ids),
        row_ids=tuple(row_ids),
        epoch=epoch,
        ends_epoch=ends_epoch,
    )


def _row_length(rows: TokenizedRows, row_ids: Sequence[tuple[int, ...]], max_seq_len: int) -> int:
    """The longest row, rounded up to a multiple of 8 where that is allowed."""
    longest = max(sum(int(rows.lengths[index]) for index in examples) for examples in row_ids)
    return min(max_seq_len, -(-longest // _MULTIPLE) * _MULTIPLE)
