"""Fréchet distance and inception-style score of embeddings that somebody made: of images, sounds or texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genai.errors import DataError
from genai.metrics.distances import frechet_distance, inception_style_score

_Floats = NDArray[np.float64]
_SHARES_ADD_UP_TO = 1e-3
"""Probabilities of single precision may miss one by so much."""


@dataclass(frozen=True, kw_only=True)
class FrechetScore:
    """How far two sets of embeddings lie apart; 0 where mean and covariance are the same."""

    distance: float
    num_first: int
    num_second: int
    num_dimensions: int
    note: str
    """What to think of when reading it; empty where nothing is."""


def frechet_of_files(first: Path, second: Path) -> FrechetScore:
    """The Fréchet distance between two files of embeddings.

    Args:
        first, second: .npy files of shape (rows, dimensions), two rows at least; both with the same dimensions.

    Raises:
        DataError: a file cannot be read, or the shapes do not fit.
    """
    first_ND, second_ND = read_matrix(first), read_matrix(second)
    for path, matrix in ((first, first_ND), (second, second_ND)):
        if len(matrix) < 2:
            raise DataError("it has one row, and a covariance takes two", where=str(path))
    if first_ND.shape[1] != second_ND.shape[1]:
        raise DataError(
            f"its rows have {second_ND.shape[1]} numbers, those of {first} {first_ND.shape[1]}",
            where=str(second),
            fix="make both with the same encoder",
        )
    fewest, dimensions = min(len(first_ND), len(second_ND)), first_ND.shape[1]
    note = ""
    if fewest <= dimensions:
        note = f"{fewest} rows are few for {dimensions} dimensions: distances come out too large; compare equal numbers"
    return FrechetScore(
        distance=frechet_distance(first_ND, second_ND),
        num_first=len(first_ND),
        num_second=len(second_ND),
        num_dimensions=dimensions,
        note=note,
    )


def inception_of_file(path: Path) -> float:
    """The inception-style score of a file of class probabilities: from 1 (all alike) to the number of classes.

    Args:
        path: a .npy file of shape (rows, classes); each row adds up to one.

    Raises:
        DataError: it cannot be read, or its rows are no probabilities.
    """
    probabilities_NC = read_matrix(path)
    sums_N = probabilities_NC.sum(axis=1)
    wrong = np.flatnonzero((np.abs(sums_N - 1) > _SHARES_ADD_UP_TO) | (probabilities_NC < 0).any(axis=1))
    if len(wrong):
        raise DataError(
            f"row {wrong[0]} is no distribution: it adds up to {sums_N[wrong[0]]:.4g}, and none may be negative",
            where=str(path),
            fix="give the probabilities of a classifier (after softmax)",
        )
    return inception_style_score(probabilities_NC / sums_N[:, None])


def read_matrix(path: Path) -> _Floats:
    """Numbers of a .npy file, which cannot carry code: objects are refused.

    Args:
        path: a file of numpy's format, shape (rows, columns), neither of them 0.

    Raises:
        DataError: it cannot be read, has another shape, or holds what is no finite number.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"it cannot be read as an array: {error}", where=str(path), fix="write it with numpy.save"
        ) from (error)
    if not isinstance(loaded, np.ndarray):
        loaded.close()
        raise DataError("it holds several arrays", where=str(path), fix="write one with numpy.save")
    if loaded.ndim != 2 or 0 in loaded.shape or loaded.dtype.kind not in "fiu":
        raise DataError(
            f"it has shape {loaded.shape} of {loaded.dtype}, not (rows, columns) of real numbers", where=str(path)
        )
    matrix = loaded.astype(np.float64)
    if not np.isfinite(matrix).all():
        row = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
        raise DataError(f"row {row} holds what is no finite number", where=str(path))
    return matrix
