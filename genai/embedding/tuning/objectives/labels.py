"""What the losses that learn from grades or from a teacher ask of a batch."""

from __future__ import annotations

import torch

from genai.embedding.tuning.interfaces import Embedded
from genai.errors import UsageError


def own_scores(batch: Embedded) -> torch.Tensor:
    """Cosines of each query with its own documents, (B, 1 + K)."""
    return torch.einsum("bd,bkd->bk", batch.queries, batch.documents)


def labels_of(labels: torch.Tensor | None, name: str) -> torch.Tensor:
    """The labels, (B, 1 + K), where the batch has some.

    Raises:
        UsageError: it has none.
    """
    if labels is None:
        raise UsageError(
            f"{name} learns from scores, but the pairs have none",
            where="loss.name",
            fix="give the pairs a column score (data.columns), or name a teacher where the loss takes one",
        )
    return labels


def refuse_no_negatives(scores: torch.Tensor, name: str) -> None:
    """See that rows have documents to compare.

    Args:
        scores: (B, 1 + K).
        name: of the loss.

    Raises:
        UsageError: K is 0: such a loss would be constant, and nothing would be learnt.
    """
    if scores.shape[1] < 2:
        raise UsageError(
            f"{name} compares a query's documents, but each has only one",
            where="loss.name",
            fix="set hard_negatives: {}, or give the pairs a column negative",
        )
