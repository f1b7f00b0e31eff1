"""Every text of a job as tokens, once, in memory that holds nothing but the ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from genai.embedding.tuning.interfaces import Ids, TokenTable
from genai.log import progress

TokensOf = Callable[[Sequence[str], Literal["query", "document"]], tuple[list[Ids], int]]
"""The ids of texts with prompt and special tokens, and how many of them were longer than the model reads."""
_TEXTS_AT_ONCE = 4096


class FlatTokens(Sequence[Ids]):
    """Sequences of ids that lie in one array.

    Args:
        flat: all ids, int32.
        ends: where each sequence ends, after a 0; shape (sequences + 1,).
    """

    def __init__(self, flat: NDArray[np.int32], ends: NDArray[np.int64]) -> None:
        self._flat = flat
        self._ends = ends

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> Ids: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Ids]: ...

    def __getitem__(self, index: int | slice) -> Ids | Sequence[Ids]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        return self._flat[self._ends[index] : self._ends[index + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Of each sequence."""
        return np.diff(self._ends)


def token_table(tokens_of: TokensOf, queries: Sequence[str], passages: Sequence[str]) -> TokenTable:
    """Tokenise all texts of a job.

    Args:
        tokens_of: of the model.
        queries: of pair i, as `PairIndex.queries` has them.
        passages: as `PairIndex.texts` has them.
    """
    query_ids, num_cut_queries = _tokens(tokens_of, queries, "query")
    passage_ids, num_cut_passages = _tokens(tokens_of, passages, "document")
    return TokenTable(
        queries=query_ids,
        passages=passage_ids,
        num_cut_queries=num_cut_queries,
        num_cut_passages=num_cut_passages,
    )


def lengths_of(sequences: Sequence[Ids]) -> NDArray[np.int64]:
    """How many tokens each sequence has."""
    if isinstance(sequences, FlatTokens):
        return sequences.lengths
    return np.array([len(ids) for ids in sequences], dtype=np.int64)


def _tokens(tokens_of: TokensOf, texts: Sequence[str], kind: Literal["query", "document"]) -> tuple[FlatTokens, int]:
    parts: list[NDArray[np.int32]] = []
    lengths: list[int] = []
    num_cut = 0
    with progress("tokenising", len(texts)) as task:
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            ids, cut = tokens_of(texts[start : start + _TEXTS_AT_ONCE], kind)
            lengths.extend(len(each) for each in ids)
            parts.append(np.concatenate([np.zeros(0, dtype=np.int32), *ids]).astype(np.int32, copy=False))
            num_cut += cut
            task.update(start + len(ids))
    flat = np.concatenate([np.zeros(0, dtype=np.int32), *parts])
    return FlatTokens(flat, np.append(0, np.cumsum(np.array(lengths, dtype=np.int64)))), num_cut
