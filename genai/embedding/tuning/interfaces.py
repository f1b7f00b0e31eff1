"""What passes between the parts of tuning, and what they ask of parts that come from elsewhere.

Shapes: B rows (queries) of the global batch, K negatives of each, D numbers a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Ids = NDArray[np.int32]
"""Token ids of one text, with prompt and special tokens: (length,)."""
Vectors = NDArray[np.float32]
"""(n, D), of length 1."""


@dataclass(frozen=True, kw_only=True)
class TokenTable:
    """Every text of a job as tokens, once."""

    queries: Sequence[Ids]
    """Of pair i; prompts and special tokens among them, cut to what the model reads."""
    passages: Sequence[Ids]
    """Of passage i of the corpus."""
    num_cut_queries: int = 0
    """Queries that were longer."""
    num_cut_passages: int = 0
    """Passages that were longer."""


@dataclass(frozen=True, kw_only=True)
class PairBatch:
    """Rows of one rank out of a global batch; the counts are those of the global batch.

    The rows of rank r stand in the global batch after those of the ranks before it.
    """

    pairs: NDArray[np.int64]
    """Which pair each row is, (rows,)."""
    passages: NDArray[np.int64]
    """Which passages belong to it: the positive first, then its negatives, (rows, 1 + K)."""
    labels: NDArray[np.float32] | None
    """What a teacher or the data says of each, (rows, 1 + K); None where nothing does."""
    rows_by_rank: tuple[int, ...]
    """How many rows each rank has; they sum to B."""
    num_tokens: int
    """Of all texts."""
    num_examples: int
    """B."""
    epoch: int = 0
    """Which pass over the pairs this batch belongs to, from 0."""
    ends_epoch: bool = False
    """Whether it is the last one of that pass."""

    @property
    def num_trained_tokens(self) -> int:
        """What the loss is a mean over: rows."""
        return self.num_examples

    @property
    def row_ids(self) -> tuple[tuple[int, ...], ...]:
        """The pair of each row."""
        return tuple((int(pair),) for pair in self.pairs)


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """A global batch as vectors of length 1; what an objective looks at."""

    queries: torch.Tensor
    """(B, D)"""
    documents: torch.Tensor
    """(B, 1 + K, D), the positive first."""
    pairs: torch.Tensor
    """Which pair each row is, int64 (B,)."""
    passages: torch.Tensor
    """Which passage each document is, int64 (B, 1 + K): one passage may stand in several places."""
    labels: torch.Tensor | None
    """(B, 1 + K)"""


class Objective(Protocol):
    """A loss over vectors."""

    def __call__(self, batch: Embedded) -> torch.Tensor:
        """The mean over the rows of the global batch: a float32 scalar with a graph."""


Gather = Callable[["torch.Tensor", Sequence[int]], "torch.Tensor"]
"""The rows of all ranks, in the order of ranks, from this rank's own: (rows, ...) -> (B, ...). Takes the rows of each
rank; no gradient goes through it, see `genai.embedding.tuning.loss`."""


class Neighbours(Protocol):
    """Finds the nearest passages; made by jobs out of an engine of the index room, or of plain products."""

    def nearest(self, queries: Vectors, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Positions in the corpus and dot products of the k nearest, best first, both (n, k); -1 where there are
        fewer.
        """


NeighboursOf = Callable[[Vectors], Neighbours]
"""From the vectors of all passages, in their order."""


class TextEmbedder(Protocol):
    """What measuring and mining ask of an encoder; met by `genai.embedding.encoder.TextEncoder` and by a model in
    training.
    """

    def embed_documents(self, texts: Sequence[str]) -> Any:
        """(n, D)"""

    def embed_queries(self, texts: Sequence[str]) -> Any:
        """(n, D)"""


class PairScorer(Protocol):
    """Scores passages for a query, higher is better; met by cross-encoders."""

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """One number a text."""


class Generator(Protocol):
    """A language model that answers prompts; made by jobs out of a model in this process, or of an endpoint."""

    @property
    def name(self) -> str:
        """Reference and, where known, fingerprint; part of the key of what is cached."""

    def generate(self, prompts: Sequence[str], *, seed: int) -> list[str]:
        """An answer to each; the same prompts and seed give the same answers where the model allows that."""

    def count_tokens(self, text: str) -> int:
        """For the estimate; about four characters a token where the tokenizer is not known."""
