"""Batches of pairs with their negatives, epoch after epoch; a stream can be saved and continued exactly.

The order of an epoch is a pure function of (seed, epoch), see `genai.data.batches.epoch_order`; so are the batches and
the random negatives in them. No batch holds a query or a passage twice, nor a passage that answers another row's query,
see `genai.embedding.tuning.distinct_batches`. Global batches do not depend on the number of ranks: each makes all of
them, and keeps its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genai.data.batches import check_identity, epoch_order
from genai.embedding.tuning.distinct_batches import distinct_batches
from genai.embedding.tuning.interfaces import PairBatch, TokenTable
from genai.embedding.tuning.pair_index import PairIndex, index_pairs
from genai.embedding.tuning.tokenising import lengths_of
from genai.errors import UsageError
from genai.log import get_logger

__all__ = ["Labels", "PairIndex", "PairStream", "held_out_batches", "index_pairs"]

Labels = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]
"""From the pairs (rows,) and passages (rows, 1 + K) of a batch to what a teacher says of them, (rows, 1 + K)."""
_LEFT_OUT_SHARE = 0.1
_DRAWS = 32
_log = get_logger(__name__)


class PairStream:
    """Training batches without end.

    The negatives of a row are those that were mined, then those that the data gives, then passages drawn at random by
    (seed, epoch, pair); there are `num_negatives` of each row.

    Args:
        index: the pairs.
        tokens: of `index.queries` and `index.texts`.
        batch_size: rows of a global batch.
        num_negatives: K.
        seed: of the order and of random negatives.
        rank: whose rows of each batch are wanted.
        world_size: among how many ranks a batch is divided.
        drop_last: leave out the batches of an epoch that are shorter than its largest one: what is left at its end.
        distinct: no batch holds what answers another of its rows; losses that look at one row at a time do not need it.
        labels: of a teacher; by default the grades of the data, where they count, and 0 for negatives.

    Raises:
        UsageError: there is no pair, or no passage that could be a negative of some query.
    """

    def __init__(
        self,
        index: PairIndex,
        tokens: TokenTable,
        *,
        batch_size: int,
        num_negatives: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = True,
        distinct: bool = True,
        labels: Labels | None = None,
    ) -> None:
        if not len(index.trained):
            raise UsageError("there are no pairs to train on", fix="look at data.pairs and data.split")
        self._index = index
        self._rows = _Rows(index, tokens, num_negatives, np.flatnonzero(index.may_be_negative), labels)
        self._rows.check(index.trained)
        self._batch_size = batch_size
        self._num_negatives = num_negatives
        self._seed = seed
        self._rank, self._world_size = rank, world_size
        self._drop_last = drop_last
        self._distinct = distinct
        self._mined: NDArray[np.int64] | None = None
        self._negatives_name: str | None = None
        self._counts: dict[int, int] = {}
        self._epoch = 0
        self._batch_in_epoch = 0
        self._batches = self._make_batches(0)
        left_out = len(index.trained) - sum(map(len, self._batches))
        if left_out > max(batch_size, _LEFT_OUT_SHARE * len(index.trained)):
            what = "%d of %d pairs are left out of an epoch: they share queries or passages with too many others"
            _log.warning(what, left_out, len(index.trained))

    @property
    def epoch(self) -> int:
        """The pass that the next batch belongs to, from 0."""
        return self._epoch

    @property
    def batch_in_epoch(self) -> int:
        """How many batches of this pass were given out."""
        return self._batch_in_epoch

    @property
    def negatives_name(self) -> str | None:
        """What the negatives are called that the next batch needs; None: none were mined. After `load_state_dict` the
        caller sees to it that they are there, by `set_negatives`.
        """
        return self._negatives_name

    def set_negatives(self, negatives: NDArray[np.int64], name: str) -> None:
        """Take these mined negatives from the next batch on.

        Args:
            negatives: positions, the hardest first, -1 where there are fewer, (training pairs, any number).
            name: under which the caller keeps them.
        """
        if negatives.ndim != 2 or len(negatives) != self._index.num_pairs:
            raise ValueError(f"negatives of shape {negatives.shape} for {self._index.num_pairs} pairs")
        self._mined, self._negatives_name = negatives, name

    def batches_in_epoch(self, epoch: int) -> int:
        """How many batches a pass has; found by making them, once."""
        if epoch not in self._counts:
            self._make_batches(epoch)
        return self._counts[epoch]

    def next_batch(self) -> PairBatch:
        """The next batch."""
        if self._negatives_name is not None and self._mined is None:
            raise ValueError(f"the negatives '{self._negatives_name}' were not given back by set_negatives")
        rows = self._batches[self._batch_in_epoch]
        epoch, self._batch_in_epoch = self._epoch, self._batch_in_epoch + 1
        ends_epoch = self._batch_in_epoch == len(self._batches)
        seeds = (self._seed & (2**64 - 1), epoch)
        passages = self._rows.passages(rows, self._mined, seeds)
        if ends_epoch:
            self._start_epoch(epoch + 1, 0)
        return self._rows.batch(
            rows, passages, rank=self._rank, world_size=self._world_size, epoch=epoch, ends_epoch=ends_epoch
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on from here, as JSON can hold it."""
        return {
            "identity": self._identity(),
            "epoch": self._epoch,
            "batch_in_epoch": self._batch_in_epoch,
            "negatives": self._negatives_name,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            UsageError: the pairs or the settings that decide their order are others than then.
        """
        check_identity(state["identity"], self._identity())
        self._start_epoch(int(state["epoch"]), int(state["batch_in_epoch"]))
        if state["negatives"] != self._negatives_name:
            self._mined, self._negatives_name = None, state["negatives"]

    def _identity(self) -> dict[str, Any]:
        return {
            "pairs": self._index.fingerprint,
            "batch_size": self._batch_size,
            "num_negatives": self._num_negatives,
            "seed": self._seed,
            "drop_last": self._drop_last,
            "distinct": self._distinct,
        }

    def _start_epoch(self, epoch: int, batch: int) -> None:
        if epoch != self._epoch:
            self._batches = self._make_batches(epoch)
        self._epoch, self._batch_in_epoch = epoch, batch

    def _make_batches(self, epoch: int) -> list[NDArray[np.int64]]:
        trained = self._index.trained
        order = trained[epoch_order(len(trained), seed=self._seed, epoch=epoch)]
        if self._distinct:
            batches = self._rows.distinct(order, self._batch_size)
        else:
            batches = [order[start : start + self._batch_size] for start in range(0, len(order), self._batch_size)]
        if self._drop_last:
            largest = max(map(len, batches))
            batches = [batch for batch in batches if len(batch) == largest]
        self._counts[epoch] = len(batches)
        return batches


def held_out_batches(
    index: PairIndex,
    tokens: TokenTable,
    *,
    batch_size: int,
    num_negatives: int = 0,
    rank: int = 0,
    world_size: int = 1,
    labels: Labels | None = None,
) -> Iterator[PairBatch]:
    """The validation queries with their best answers, the same batches each time; negatives are drawn from all
    passages.

    Args:
        index: the pairs.
        tokens: of `index.queries` and `index.texts`.
        batch_size: rows of a global batch.
        num_negatives: K.
        rank: whose rows of each batch are wanted.
        world_size: among how many ranks a batch is divided.
        labels: see `PairStream`.
    """
    rows = _Rows(index, tokens, num_negatives, np.arange(len(index.may_be_negative)), labels)
    rows.check(index.validation)
    batches = rows.distinct(index.validation, batch_size)
    for number, batch in enumerate(batches, 1):
        yield rows.batch(
            batch,
            rows.passages(batch, None, (0, 0)),
            rank=rank,
            world_size=world_size,
            epoch=0,
            ends_epoch=number == len(batches),
        )


class _Rows:
    """Makes batches out of numbers of rows.

    Args:
        index: the pairs.
        tokens: of all texts.
        num_negatives: K.
        pool: positions that random negatives are drawn from.
        labels: see `PairStream`.
    """

    def __init__(
        self,
        index: PairIndex,
        tokens: TokenTable,
        num_negatives: int,
        pool: NDArray[np.int64],
        labels: Labels | None,
    ) -> None:
        self._index = index
        self._query_lengths, self._text_lengths = lengths_of(tokens.queries), lengths_of(tokens.passages)
        assert (len(self._query_lengths), len(self._text_lengths)) == (len(index.queries), len(index.texts))
        self._num_negatives = num_negatives
        self._pool = pool
        self._labels = labels
        self._query_ids, self._passages = index.query_ids.tolist(), index.passages.tolist()

    def check(self, rows: NDArray[np.int64]) -> None:
        """See that every row can have a negative.

        Raises:
            UsageError: one cannot.
        """
        if not self._num_negatives:
            return
        in_pool = set(self._pool.tolist())
        for row in rows.tolist():
            answers = self._index.row_answers[row]
            if len(answers) >= len(in_pool) and in_pool.issubset(answers):
                message = f"every passage that could be a negative of '{self._index.queries[row]}' answers it"
                raise UsageError(message, where="hard_negatives", fix="leave it out, or name a corpus (data.corpus)")

    def distinct(self, order: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
        """Divide rows into batches without clashes."""
        batches = distinct_batches(
            order.tolist(),
            batch_size=batch_size,
            query_ids=self._query_ids,
            passages=self._passages,
            answers=self._index.row_answers,
        )
        return [np.array(batch, dtype=np.int64) for batch in batches]

    def passages(
        self, rows: NDArray[np.int64], mined: NDArray[np.int64] | None, seeds: tuple[int, int]
    ) -> NDArray[np.int64]:
        """Positions of the positive and the K negatives of each row, (rows, 1 + K).

        What is one more answer to a query of the batch is passed over in this batch: a loss over the batch knows each
        row's own positive by its position, but no further answers.
        """
        found = np.empty((len(rows), 1 + self._num_negatives), dtype=np.int64)
        found[:, 0] = self._index.positives[rows]
        if self._num_negatives:
            positives = set(found[:, 0].tolist())
            answers = {answer for row in rows.tolist() for answer in self._index.row_answers[row]}
            for number, row in enumerate(rows.tolist()):
                negatives = self._known(row, mined, answers - positives)
                found[number, 1:] = self._filled(row, negatives, answers | positives, (*seeds, row))
        return found

    def _known(self, row: int, mined: NDArray[np.int64] | None, without: set[int]) -> list[int]:
        """The row's mined and given negatives, at most K."""
        known = [] if mined is None or row >= len(mined) else mined[row].tolist()
        known += self._index.given[row].tolist()
        without = without.union(self._index.row_answers[row])
        return [place for place in dict.fromkeys(known) if place >= 0 and place not in without][: self._num_negatives]

    def _filled(self, row: int, negatives: list[int], without: set[int], seeds: Sequence[int]) -> list[int]:
        """K negatives: random ones in the missing places, none of the batch's own passages where there are others."""
        if len(negatives) == self._num_negatives:
            return negatives
        for place in self._random(seeds):
            if place not in without and place not in negatives:
                negatives.append(place)
            if len(negatives) == self._num_negatives:
                return negatives
        answers = self._index.row_answers[row]
        negatives += [place for place in self._pool.tolist() if place not in answers and place not in negatives]
        return [negatives[number % len(negatives)] for number in range(self._num_negatives)]

    def _random(self, seeds: Sequence[int]) -> Iterator[int]:
        """Places of the pool, some of them drawn, then all of them from a place on that was drawn."""
        numbers = np.random.PCG64(np.random.SeedSequence(seeds)).random_raw(self._num_negatives + _DRAWS)
        drawn = (numbers % np.uint64(len(self._pool))).astype(np.int64)
        yield from self._pool[drawn].tolist()
        start = int(drawn[0])
        for part in (self._pool[start:], self._pool[:start]):
            yield from (int(place) for place in part)

    def batch(
        self,
        rows: NDArray[np.int64],
        passages: NDArray[np.int64],
        *,
        rank: int,
        world_size: int,
        epoch: int,
        ends_epoch: bool,
    ) -> PairBatch:
        """What one rank gets of a global batch."""
        bounds = [other * len(rows) // world_size for other in range(world_size + 1)]
        mine = slice(bounds[rank], bounds[rank + 1])
        tokens = self._query_lengths[rows].sum() + self._text_lengths[passages].sum()
        return PairBatch(
            pairs=rows[mine],
            passages=passages[mine],
            labels=self._labels_of(rows[mine], passages[mine]),
            rows_by_rank=tuple(end - start for start, end in pairwise(bounds)),
            num_tokens=int(tokens),
            num_examples=len(rows),
            epoch=epoch,
            ends_epoch=ends_epoch,
        )

    def _labels_of(self, rows: NDArray[np.int64], passages: NDArray[np.int64]) -> NDArray[np.float32] | None:
        if self._labels is not None:
            return self._labels(rows, passages)
        if self._index.scores is None:
            return None
        labels = np.zeros(passages.shape, dtype=np.float32)
        labels[:, 0] = self._index.scores[rows]
        return labels
