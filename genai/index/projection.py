"""Embeddings as points of a plane, to look at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from genai.index.interfaces import Vectors

MAX_POINTS = 2000


def sample_places(num: int, *, max_points: int = MAX_POINTS, seed: int = 0) -> NDArray[np.int64]:
    """Which of `num` things to show, ascending: all, or as many as may be, drawn at random but always the same."""
    if num <= max_points:
        return np.arange(num)
    return np.sort(np.random.default_rng(seed).choice(num, size=max_points, replace=False))


def project(vectors: Vectors) -> NDArray[np.float32]:
    """The two directions in which the vectors differ most: principal components.

    A component's sign means nothing; here the largest number of its direction is positive, so that the same vectors
    give the same picture. Source: Pearson 1901, "On lines and planes of closest fit to systems of points in space".

    Args:
        vectors: (n, dim), some thousands at most.

    Returns:
        (n, 2); zeros where the vectors do not differ, or have fewer numbers.
    """
    points = np.zeros((len(vectors), 2), dtype=np.float32)
    if len(vectors) < 2:
        return points
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    if centred.shape[1] <= len(centred):
        _, axes = np.linalg.eigh(centred.T @ centred)
        axes = axes[:, ::-1][:, :2]
    else:  # the same directions from the smaller of the two products
        variances, places = np.linalg.eigh(centred @ centred.T)
        axes = centred.T @ places[:, ::-1][:, :2] / np.sqrt(np.maximum(variances[::-1][:2], 1e-12))
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    points[:, : axes.shape[1]] = centred @ axes
    return points
