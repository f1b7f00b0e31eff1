"""Losses over the scores that a cross-encoder gives a query's documents, each as one number a row.

Shapes: B rows, K negatives of each; scores are logits (B, 1 + K), the positive's first.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from genai.embedding.tuning.objectives.labels import refuse_no_negatives
from genai.errors import DataError


def binary_cross_entropy(
    scores: torch.Tensor, labels: torch.Tensor | None = None, *, positive_weight: float = 1.0
) -> torch.Tensor:
    """Mean over a row's documents of the cross-entropy of yes and no, in nats, (B,).

    Args:
        scores: (B, 1 + K).
        labels: grades from 0 to 1, (B, 1 + K); None: the positive is 1, negatives are 0.
        positive_weight: how much more yes counts than no.

    Raises:
        UsageError: there are neither negatives nor grades: whatever says yes to everything would be best.
        DataError: a grade is below 0 or above 1.

    Source:
        sentence-transformers 6.2, cross_encoder BinaryCrossEntropyLoss with pos_weight.
    """
    if labels is None:
        refuse_no_negatives(scores, "binary_cross_entropy")
        labels = torch.zeros_like(scores)
        labels[:, 0] = 1
    elif bool(((labels < 0) | (labels > 1)).any()):
        raise DataError(
            f"binary_cross_entropy takes grades from 0 to 1, and one is {_strayed(labels):g}",
            where="the column score",
            fix="divide the grades by the highest",
        )
    weight = scores.new_tensor(positive_weight)
    return F.binary_cross_entropy_with_logits(scores, labels, pos_weight=weight, reduction="none").mean(dim=1)


def listwise(scores: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the positive among a row's documents, in nats, (B,).

    Raises:
        UsageError: there are no negatives.

    Source:
        Cao et al. 2007, "Learning to Rank: From Pairwise Approach to Listwise Approach" (ListNet), with all the
        probability on the positive.
    """
    refuse_no_negatives(scores, "listwise")
    return -F.log_softmax(scores, dim=1)[:, 0]


def _strayed(labels: torch.Tensor) -> float:
    return float(labels.flatten()[(labels - 0.5).abs().argmax()])
