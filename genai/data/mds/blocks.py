"""All token rows of a shard as one array over its bytes, when they are of equal length: no loop over samples.

Samples of equal size lie at equal distances. Then the tokens of row i stand at `first + i * distance`, which numpy
reads with strides, whatever stands before them in a sample (sizes, dtype and shape of an array): that is compared
with the first sample's in the same way, for all samples at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genai.data.mds.encodings import BAD_VALUE, array_form
from genai.data.mds.shard import Shard
from genai.errors import DataError

BYTES_DTYPE = "int64"
"""What a column of `bytes` holds: llm-foundry's `convert_dataset_hf.py` writes int64."""


@dataclass(frozen=True, kw_only=True)
class TokenBlock:
    """The token rows of one shard, n rows of `seq_len` tokens, still where they lie."""

    rows: NDArray[np.void]
    """Each row as one value of raw bytes, shape (n,): copying one is a memcpy, wherever it is aligned."""
    dtype: np.dtype[np.integer]
    seq_len: int

    def gather(self, indices: NDArray[np.int64], num_tokens: int | None = None) -> NDArray[np.integer]:
        """Some rows, copied out of the shard.

        Args:
            indices: which, shape (k,).
            num_tokens: how many tokens from the start of each; all by default.

        Returns:
            The tokens, shape (k, num_tokens), in the dtype of the shard.
        """
        tokens = self.rows[indices].view(self.dtype).reshape(len(indices), self.seq_len)
        return tokens if num_tokens is None else tokens[:, :num_tokens]


def token_block(shard: Shard, column: str = "tokens") -> TokenBlock:
    """The rows of the token column of a shard.

    Args:
        shard: of a column `ndarray:DTYPE:N`, `ndarray:DTYPE`, `ndarray`, or `bytes` that hold int64; other columns may
            stand beside it.
        column: its name.

    Raises:
        DataError: there is no such column, or its rows are not of equal length.
    """
    info = shard.info
    if column not in info.column_names:
        raise DataError(
            f"it has no column {column!r}, but {', '.join(map(repr, info.column_names))}",
            where=shard.where,
            fix="make shards of tokens from it (genai data convert)",
        )
    number = info.column_names.index(column)
    sizes = _equal_sizes(shard, number)
    position = 4 * sum(size is None for size in info.column_sizes) + sum(sizes[:number])
    dtype, head_bytes = _value_type(shard, column, info.column_encodings[number], position, sizes[number])
    width = sizes[number] - head_bytes
    rows = np.ndarray(
        (len(shard),),
        dtype=f"V{width}",
        buffer=shard.data,
        offset=int(shard.offsets[0]) + position + head_bytes,
        strides=(_distance(shard),),
    )
    return TokenBlock(rows=rows, dtype=dtype, seq_len=width // dtype.itemsize)


def _distance(shard: Shard) -> int:
    return int(shard.offsets[1]) - int(shard.offsets[0])


def _equal_sizes(shard: Shard, number: int) -> list[int]:
    """Bytes of each column, the same in all samples (column `number` is the one that is asked for)."""
    if not len(shard):
        raise DataError("it holds no sample", where=shard.where)
    distances = np.diff(shard.offsets)
    if not (distances == distances[0]).all():
        raise _unequal(shard, number, int(np.argmax(distances != distances[0])))
    variable = sum(size is None for size in shard.info.column_sizes)
    if int(distances[0]) < 4 * variable:
        raise DataError("its samples are too short for their columns", where=shard.where)
    _require_equal(shard, number, 0, 4 * variable)
    return shard.column_sizes(0)


def _require_equal(shard: Shard, number: int, start: int, end: int) -> None:
    """That bytes `start` to `end` of every sample are those of the first one."""
    if start == end:
        return
    base = int(shard.offsets[0])
    heads = np.ndarray((len(shard), end - start), np.uint8, shard.data, base + start, (_distance(shard), 1))
    other = (heads != heads[0]).any(axis=1)
    if other.any():
        raise _unequal(shard, number, int(np.argmax(other)))


def _unequal(shard: Shard, number: int, index: int) -> DataError:
    column = shard.info.column_names[number]
    return DataError(
        f"sample {index} has other sizes than sample 0: rows of {column!r} must be of equal length",
        where=shard.where,
        fix="make shards of tokens from it (genai data convert)",
    )


def _value_type(shard: Shard, column: str, encoding: str, position: int, size: int) -> tuple[np.dtype[np.integer], int]:
    """Dtype of the tokens, and the bytes before them within their column, which are the same in all samples."""
    number = shard.info.column_names.index(column)
    if encoding == "bytes":
        dtype, head_bytes = np.dtype(BYTES_DTYPE), 0
    elif encoding.partition(":")[0] == "ndarray":
        value = shard.sample_bytes(0)[position : position + size]
        try:
            name, shape, head_bytes = array_form(encoding, column).read_head(value)
        except BAD_VALUE as error:
            raise DataError(f"sample 0, column {column!r} is no {encoding}: {error}", where=shard.where) from error
        if len(shape) != 1:
            raise DataError(f"column {column!r} has {len(shape)} axes, a row of tokens has one", where=shard.where)
        dtype = np.dtype(name)
        _require_equal(shard, number, position, position + head_bytes)
    else:
        raise DataError(f"column {column!r} is {encoding}, which holds no tokens", where=shard.where)
    if dtype.kind not in "iu" or size <= head_bytes or (size - head_bytes) % dtype.itemsize:
        raise DataError(f"column {column!r} holds no whole {dtype.name} tokens", where=shard.where)
    return dtype.newbyteorder("<"), head_bytes
