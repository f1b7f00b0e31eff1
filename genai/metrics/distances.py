"""How like two sets of images or texts are, by their embeddings, and how sure and varied a classifier finds one.

The names FID and Inception score belong to one network's features; with embeddings of another they are not comparable
to published figures, only among themselves.

Sources: Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium"
(Fréchet Inception distance); Dowson and Landau 1982, "The Fréchet Distance between Multivariate Normal Distributions";
Salimans et al. 2016, "Improved Techniques for Training GANs", section 4 (Inception score).

Shapes: N items, D dimensions, C classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from genai.metrics.aggregates import Floats


def frechet_distance(first_ND: ArrayLike, second_ND: ArrayLike) -> float:
    """The squared Fréchet distance of the normal distributions that have the mean and covariance of each set.

        |m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2))

    It falls with the number of items, so that only sets of the same sizes are to be compared.

    Args:
        first_ND, second_ND: (N, D), at least two rows each; the numbers of rows may differ.
    """
    first, second = np.asarray(first_ND, dtype=np.float64), np.asarray(second_ND, dtype=np.float64)
    for each in (first, second):
        if each.ndim != 2 or len(each) < 2 or each.shape[1] != first.shape[1]:
            raise ValueError(f"embeddings have the shapes (N, D) with N > 1, not {first.shape} and {second.shape}")
        if not np.isfinite(each).all():
            raise ValueError("embeddings hold numbers that are not finite")
    root1, root2 = _root(first), _root(second)
    # With Ci = Ri' Ri the product C1 C2 has the eigenvalues of (R1 R2')' (R1 R2'), whose roots are singular values: no
    # root of a matrix that is nearly singular, and no imaginary part to be cut off.
    common = np.linalg.svd(root1 @ root2.T, compute_uv=False).sum()
    between = np.sum((first.mean(axis=0) - second.mean(axis=0)) ** 2)
    return max(0.0, float(between + np.sum(root1**2) + np.sum(root2**2) - 2 * common))


def _root(items_ND: Floats) -> Floats:
    """R with R' R the covariance; it has no more rows than items or dimensions."""
    centred: Floats = (items_ND - items_ND.mean(axis=0)) / np.sqrt(len(items_ND) - 1)
    if len(centred) <= centred.shape[1]:
        return centred
    triangle_DD: Floats = np.linalg.qr(centred)[1]
    return triangle_DD


def inception_style_score(probabilities_NC: ArrayLike) -> float:
    """e to the power of how much an item's class probabilities tell beyond those of all items: 1 (worst) to C.

    Args:
        probabilities_NC: (N, C), of a classifier; rows add up to 1.
    """
    probabilities = np.asarray(probabilities_NC, dtype=np.float64)
    if probabilities.ndim != 2 or not probabilities.size:
        raise ValueError(f"probabilities have the shape (N, C), not {probabilities.shape}")
    if not ((probabilities >= 0).all() and np.allclose(probabilities.sum(axis=1), 1, atol=1e-3)):
        raise ValueError("rows of probabilities are not negative and add up to 1")
    of_all_C = probabilities.mean(axis=0)
    relative = np.divide(probabilities, of_all_C, out=np.ones_like(probabilities), where=probabilities > 0)
    return float(np.exp((probabilities * np.log(relative)).sum(axis=1).mean()))
