"""The distribution over a query's documents shall be a teacher's.

Shapes: B rows, K negatives of each.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from genai.embedding.tuning.interfaces import Embedded
from genai.embedding.tuning.objectives.labels import labels_of, own_scores, refuse_no_negatives


def distillation(batch: Embedded, *, scale: float = 20.0, teacher_scale: float = 20.0) -> torch.Tensor:
    """Kullback-Leibler divergence of the student's softmax over positive and negatives from the teacher's, in nats.

    Args:
        batch: vectors of length 1, with a teacher's scores as labels.
        scale: the student's cosines are multiplied by it.
        teacher_scale: the teacher's scores are multiplied by it.

    Raises:
        UsageError: there are no negatives, or no labels.

    Source:
        Lin et al. 2020, "Distilling Dense Representations for Ranking using Tightly-Coupled Teachers",
        arXiv:2010.11386; sentence-transformers 6.2, DistillKLDivLoss, whose factor temperature^2 is left out: the
        gradient is of the same size as that of multiple-negatives ranking at the same scale.
    """
    scores_BK = own_scores(batch)
    labels_BK = labels_of(batch.labels, "distillation")
    refuse_no_negatives(scores_BK, "distillation")
    student_BK = F.log_softmax(scores_BK * scale, dim=1)
    teacher_BK = F.log_softmax(labels_BK * teacher_scale, dim=1)
    return F.kl_div(student_BK, teacher_BK, reduction="batchmean", log_target=True)
