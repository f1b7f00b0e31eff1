"""What a data set looks like: lengths, token counts, exact and near duplicates; in one pass, with bounded memory.

Letters in names: N samples, S tokens a row.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genai.data.mds import read_index, read_shard, token_block
from genai.data.messages import parse_messages
from genai.data.near_duplicates import near_duplicate_groups
from genai.data.rows import Row
from genai.storage import open_store

NUM_FREQUENT = 10
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_ROW_HASH_SEED = 11
_ROWS_AT_ONCE = 500
_TOKENS_AT_ONCE = 1 << 20
_MAX_KEPT_TOKENS = 1 << 24
"""Documents are kept from so many tokens at the beginning of a set."""


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """How long things are."""

    unit: str
    """`tokens` or `characters`."""
    count: int
    """How many there are."""
    mean: float
    """Average length."""
    quantiles: dict[str, float]
    """`0.5` -> median, and so on, from the shortest to the longest."""
    histogram: tuple[tuple[int, int], ...]
    """Upper bound (a power of two, itself left out) and how many are below it, from the one before on."""

    @classmethod
    def of(cls, lengths_N: NDArray[np.int64], unit: str) -> Lengths | None:
        """Of some lengths, shape (N,); None when there are none."""
        if not len(lengths_N):
            return None
        bounds = 2 ** np.arange(1, max(int(lengths_N.max()), 1).bit_length() + 1)
        below = [int((lengths_N < bound).sum()) for bound in bounds]
        bins = [(int(bound), count - before) for bound, count, before in zip(bounds, below, [0, *below], strict=False)]
        first = next(number for number, (_, count) in enumerate(bins) if count)
        quantiles = np.quantile(lengths_N, _QUANTILES)
        return cls(
            unit=unit,
            count=len(lengths_N),
            mean=float(lengths_N.mean()),
            quantiles={f"{share:g}": float(value) for share, value in zip(_QUANTILES, quantiles, strict=True)},
            histogram=tuple(bins[first:]),
        )


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """What is there more than once."""

    compared: int
    """How many were compared."""
    exact: int
    """How many say exactly what an earlier one says."""
    near: int | None = None
    """How many say nearly what an earlier one says, exact ones among them; None when that was not looked at."""
    near_compared: int = 0
    """Among how many (the first ones)."""
    largest: int = 1
    """Size of the largest group of near duplicates."""


@dataclass(frozen=True, kw_only=True)
class TokenCounts:
    """What a set of token rows holds."""

    tokens: int
    """All of them."""
    rows: int
    """How many rows."""
    seq_len: int
    """Tokens a row."""
    documents: int | None
    """Ends of text; None when that token is not known."""
    different_tokens: int
    """How many ids of the vocabulary occur."""
    frequent: tuple[tuple[int, int], ...]
    """Id and count of the most frequent ones."""


@dataclass(frozen=True, kw_only=True)
class TokenSet:
    """A look at a set of token rows."""

    counts: TokenCounts
    """How many."""
    documents: Lengths | None
    """Lengths of documents, from one end of text to the next, as far as that token is known."""
    repeated_rows: Duplicates
    """Rows, compared by a 64-bit hash."""
    first_documents: tuple[NDArray[np.int64], ...] = field(repr=False)
    """Token ids of the first documents."""


def look_at_tokens(url: str, *, end_of_text_id: int | None, max_documents: int, column: str = "tokens") -> TokenSet:
    """One pass over the shards of a set of token rows.

    Args:
        url: the folder or bucket with index.json.
        end_of_text_id: the token between documents, where it is known.
        max_documents: how many documents to keep.
        column: the column with the tokens.

    Raises:
        DataError: the set is damaged, or its rows differ in length.
    """
    vocabulary: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
    ends: list[NDArray[np.int64]] = []
    hashes: list[NDArray[np.uint64]] = []
    kept: list[NDArray[np.int64]] = []
    num_kept = num_tokens = num_rows = 0
    for rows_NS in _row_blocks(url, column):
        vocabulary = _added(vocabulary, np.bincount(rows_NS.ravel()))
        hashes.append(_row_hashes(rows_NS))
        flat = rows_NS.ravel()
        if end_of_text_id is not None:
            ends.append(np.flatnonzero(flat == end_of_text_id) + num_tokens)
            if num_kept < max_documents and num_tokens < _MAX_KEPT_TOKENS:
                kept.append(flat)
                num_kept += len(ends[-1])
        num_tokens += len(flat)
        num_rows += len(rows_NS)
    all_ends = np.concatenate(ends) if ends else np.zeros(0, dtype=np.int64)
    counts = TokenCounts(
        tokens=num_tokens,
        rows=num_rows,
        seq_len=num_tokens // max(num_rows, 1),
        documents=None if end_of_text_id is None else len(all_ends),
        different_tokens=int((vocabulary > 0).sum()),
        frequent=_frequent(vocabulary),
    )
    row_hashes = np.concatenate(hashes) if hashes else np.zeros(0, dtype=np.uint64)
    first = _split_at_ends(np.concatenate(kept), end_of_text_id, max_documents) if kept else ()
    return TokenSet(
        counts=counts,
        documents=Lengths.of(np.diff(all_ends, prepend=-1) - 1, "tokens"),
        repeated_rows=Duplicates(compared=num_rows, exact=num_rows - len(np.unique(row_hashes))),
        first_documents=first,
    )


def compare(
    rows: Iterable[Row], *, near_among: int, token_lengths: Callable[[list[str]], list[int]] | None = None
) -> tuple[Lengths | None, Duplicates]:
    """Lengths and duplicates of rows.

    Args:
        rows: read once; only the first ones are kept, of the others their hashes.
        near_among: among how many of the first to look for near duplicates; 0 does not look.
        token_lengths: counts the tokens of texts; without it lengths are in characters.
    """
    digests: Counter[bytes] = Counter()
    lengths: list[int] = []
    first: list[Row] = []
    for batch in _batches(rows):
        digests.update(hashlib.blake2b(row.key.encode(), digest_size=12).digest() for row in batch)
        texts = [row.content for row in batch]
        lengths.extend(token_lengths(texts) if token_lengths else map(len, texts))
        first.extend(batch[: near_among - len(first)])
    exact = sum(digests.values()) - len(digests)
    near, largest = _near(first) if first else (None, 1)
    duplicates = Duplicates(compared=len(lengths), exact=exact, near=near, near_compared=len(first), largest=largest)
    unit = "tokens" if token_lengths else "characters"
    return Lengths.of(np.array(lengths, dtype=np.int64), unit), duplicates


def as_row(sample: dict[str, Any]) -> Row:
    """A sample of a set of rows as the row that it was made of; other columns become their text."""
    if isinstance(sample.get("messages"), list):
        return Row(messages=parse_messages(sample["messages"]))
    if isinstance(sample.get("text"), str):
        return Row(text=sample["text"])
    return Row(text="\n".join(f"{name}: {value}" for name, value in sample.items()))


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    waiting = iter(rows)
    while batch := list(islice(waiting, _ROWS_AT_ONCE)):
        yield batch


def _near(rows: Sequence[Row]) -> tuple[int, int]:
    """How many rows are near duplicates of an earlier one, and the size of the largest group."""
    sizes = Counter(near_duplicate_groups(rows))
    return len(rows) - len(sizes), max(sizes.values())


def _row_blocks(url: str, column: str) -> Iterator[NDArray[np.int64]]:
    """All rows of a set, some at a time, shape (rows, tokens a row)."""
    store = open_store(url)
    for info in read_index(url):
        block = token_block(read_shard(store, info), column)
        step = max(1, _TOKENS_AT_ONCE // block.seq_len)
        for start in range(0, info.samples, step):
            yield block.gather(np.arange(start, min(start + step, info.samples))).astype(np.int64)


def _added(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    longer, shorter = (left, right) if len(left) >= len(right) else (right, left)
    total = longer.copy()
    total[: len(shorter)] += shorter
    return total


def _frequent(vocabulary: NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
    order = np.argsort(-vocabulary, kind="stable")[:NUM_FREQUENT]
    return tuple((int(token), int(vocabulary[token])) for token in order if vocabulary[token])


def _row_hashes(rows_NS: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A 64-bit hash of each row: a random linear form, modulo 2^64, of a mixing of its tokens."""
    factors = np.random.PCG64(_ROW_HASH_SEED).random_raw(rows_NS.shape[1]) | np.uint64(1)
    mixed = (rows_NS.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    hashes: NDArray[np.uint64] = (mixed * factors).sum(axis=1, dtype=np.uint64)
    return hashes


def _split_at_ends(flat: NDArray[np.int64], end_id: int | None, most: int) -> tuple[NDArray[np.int64], ...]:
    """The first documents, without the token that ends them."""
    ends = np.flatnonzero(flat == end_id)[:most]
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    return tuple(flat[start:end] for start, end in zip(starts, ends, strict=True))
