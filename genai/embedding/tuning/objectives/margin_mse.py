"""The differences between scores shall be a teacher's.

Shapes: B rows, K negatives of each.
"""

from __future__ import annotations

import torch

from genai.embedding.tuning.interfaces import Embedded
from genai.embedding.tuning.objectives.labels import labels_of, own_scores, refuse_no_negatives


def margin_mse(batch: Embedded, *, scale: float = 1.0) -> torch.Tensor:
    """Mean squared error of cosine(positive) - cosine(negative) against the teacher's difference.

    Args:
        batch: vectors of length 1, with a teacher's scores as labels.
        scale: cosines are multiplied by it; a cross-encoder's logits differ by more than cosines can.

    Raises:
        UsageError: there are no negatives, or no labels.

    Source:
        Hofstätter et al. 2020, "Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge
        Distillation", arXiv:2010.02666; sentence-transformers 6.2, MarginMSELoss.
    """
    return margin_losses(own_scores(batch) * scale, labels_of(batch.labels, "margin_mse")).mean()


def margin_losses(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean squared error of each row's K differences, (B,).

    Args:
        scores: (B, 1 + K), the positive's first.
        labels: the teacher's, (B, 1 + K).

    Raises:
        UsageError: there are no negatives.
    """
    refuse_no_negatives(scores, "margin_mse")
    margins = scores[:, :1] - scores[:, 1:]
    return (margins - (labels[:, :1] - labels[:, 1:])).square().mean(dim=1)
