"""The words of many points as an inverted index in numpy arrays, scored by BM25."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genai.index.interfaces import SparseVector


@dataclass(frozen=True, kw_only=True)
class Postings:
    """Term -> the rows that hold it. The entries of the i-th term are those from `starts[i]` to `starts[i + 1]`."""

    terms: NDArray[np.uint32]
    """(terms,), ascending."""
    starts: NDArray[np.int64]
    """(terms + 1,)"""
    rows: NDArray[np.int32]
    """(entries,), ascending inside of a term."""
    weights: NDArray[np.float32]
    """(entries,), the saturated term frequencies."""

    def scores(self, query: SparseVector, num_rows: int) -> NDArray[np.float32]:
        """BM25 of every row; 0 where no term of the query stands.

        Args:
            query: how often each term stands in it.
            num_rows: how many points there are, those without words among them.

        Source:
            Robertson and Zaragoza (2009), The Probabilistic Relevance Framework, section 3.4.
        """
        scores = np.zeros(num_rows, dtype=np.float32)
        if not len(self.terms):
            return scores
        places = np.minimum(np.searchsorted(self.terms, query.indices), len(self.terms) - 1)
        for place, term, count in zip(places.tolist(), query.indices, query.values, strict=True):
            if self.terms[place] == term:
                start, end = self.starts[place], self.starts[place + 1]
                frequency = float(end - start)
                inverse = np.log1p((num_rows - frequency + 0.5) / (frequency + 0.5))
                scores[self.rows[start:end]] += np.float32(count * inverse) * self.weights[start:end]
        return scores

    def joined(self, later: Postings, num_rows: int) -> Postings:
        """These rows and after them, from `num_rows` on, those of `later`."""
        return _from_entries(
            np.concatenate([_term_of_entries(self), _term_of_entries(later)]),
            np.concatenate([self.rows, later.rows + np.int32(num_rows)]),
            np.concatenate([self.weights, later.weights]),
        )

    def taken(self, position: NDArray[np.int64]) -> Postings:
        """The same with other row numbers.

        Args:
            position: (rows,), old row -> new row, -1 for those that go.
        """
        rows = position[self.rows]
        stays = rows >= 0
        return _from_entries(_term_of_entries(self)[stays], rows[stays].astype(np.int32), self.weights[stays])

    def save(self, folder: Path) -> None:
        """Write the arrays into an existing folder."""
        for name in ("terms", "starts", "rows", "weights"):
            np.save(folder / f"words-{name}.npy", getattr(self, name))


def make_postings(vectors: Sequence[SparseVector]) -> Postings:
    """The inverted index of the vectors, whose rows are their places in the sequence."""
    lengths = [len(vector.indices) for vector in vectors]
    return _from_entries(
        np.concatenate([np.zeros(0, np.uint32), *(vector.indices for vector in vectors)]),
        np.repeat(np.arange(len(vectors), dtype=np.int32), lengths),
        np.concatenate([np.zeros(0, np.float32), *(vector.values for vector in vectors)]),
    )


def load_postings(folder: Path) -> Postings:
    """What `Postings.save` wrote."""
    arrays = {
        name: np.load(folder / f"words-{name}.npy", allow_pickle=False)
        for name in ("terms", "starts", "rows", "weights")
    }
    return Postings(**arrays)


def _term_of_entries(postings: Postings) -> NDArray[np.uint32]:
    return np.repeat(postings.terms, np.diff(postings.starts))


def _from_entries(terms: NDArray[np.uint32], rows: NDArray[np.int32], weights: NDArray[np.float32]) -> Postings:
    order = np.lexsort((rows, terms))
    distinct, starts = np.unique(terms[order], return_index=True)
    return Postings(
        terms=distinct.astype(np.uint32),
        starts=np.append(starts, len(terms)).astype(np.int64),
        rows=rows[order].astype(np.int32),
        weights=weights[order].astype(np.float32),
    )
