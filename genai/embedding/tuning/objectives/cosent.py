"""Pairs with higher grades shall have higher cosines."""

from __future__ import annotations

import torch

from genai.embedding.tuning.interfaces import Embedded
from genai.embedding.tuning.objectives.labels import labels_of, own_scores


def cosent(batch: Embedded, *, scale: float = 20.0) -> torch.Tensor:
    """log(1 + Σ exp(scale (cos_j - cos_i))) over all i, j of the batch where i has the higher grade than j.

    It is a loss of the batch as a whole: no row has a share of its own. A batch of equal grades costs nothing.

    Args:
        batch: vectors of length 1, with grades as labels; negatives count as pairs with grades of their own.
        scale: cosines are multiplied by it.

    Raises:
        UsageError: there are no labels.

    Source:
        Huang et al. 2024, "CoSENT: Consistent Sentence Embedding via Similarity Ranking",
        doi:10.1109/TASLP.2024.3402087; sentence-transformers 6.2, CoSENTLoss.
    """
    grades_N, order_N = labels_of(batch.labels, "cosent").flatten().sort()
    scores_N = (own_scores(batch) * scale).flatten()[order_N]
    # Sorted by grade, the pairs above i are a suffix that begins where the grade does: the sum over all of them comes
    # from one running sum, and no (N, N) table is made.
    above_N = torch.searchsorted(grades_N, grades_N, right=True)
    suffixes_N = torch.logcumsumexp(-scores_N.flip(0), dim=0).flip(0)
    has_some_N = above_N < len(grades_N)
    terms = scores_N[has_some_N] + suffixes_N[above_N[has_some_N]]
    return torch.logsumexp(torch.cat([scores_N.new_zeros(1), terms]), dim=0)
