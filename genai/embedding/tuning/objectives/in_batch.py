"""A query's own document against all others of the batch.

Shapes: B rows, K negatives of each, N = B (1 + K) documents, D numbers a vector.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from genai.embedding.tuning.interfaces import Embedded
from genai.embedding.tuning.objectives.guide import Guide, false_negatives


def multiple_negatives_ranking(
    batch: Embedded,
    *,
    scale: float = 20.0,
    symmetric: bool = False,
    guide: Guide | None = None,
    guide_margin: float = 0.0,
) -> torch.Tensor:
    """InfoNCE: cross-entropy of the own document among positives and negatives of all rows.

    A row's own passage that stands elsewhere in the batch too is no negative of this row.

    Args:
        batch: vectors of length 1.
        scale: cosines are multiplied by it.
        symmetric: also ask for the query of each positive, among all queries; the mean of both is the loss.
        guide: a frozen encoder; what it takes for an answer is no negative.
        guide_margin: see `genai.embedding.tuning.objectives.guide.false_negatives`.

    Source:
        Henderson et al. 2017, "Efficient Natural Language Response Suggestion for Smart Reply", arXiv:1705.00652.
        sentence-transformers 6.2, MultipleNegativesRankingLoss (symmetric: directions query_to_doc and doc_to_query,
        per_direction); with a guide GISTEmbedLoss without contrast_anchors and contrast_positives.
    """
    rows, ways = batch.passages.shape
    passages_N = batch.passages.flatten()
    own_B = torch.arange(rows, device=passages_N.device) * ways
    left_out_BN = passages_N[None] == batch.passages[:, :1]
    if guide is not None:
        left_out_BN = left_out_BN | false_negatives(guide, batch.pairs, passages_N, own_B, guide_margin)
    left_out_BN.scatter_(1, own_B[:, None], False)
    scores_BN = (batch.queries @ batch.documents.flatten(0, 1).T) * scale
    scores_BN = scores_BN.masked_fill(left_out_BN, -torch.inf)
    loss = F.cross_entropy(scores_BN, own_B)
    if not symmetric:
        return loss
    # What is no negative of a query is none the other way either: the same pairs are left out.
    among_queries_BB = scores_BN[:, ::ways].T
    return (loss + F.cross_entropy(among_queries_BB, torch.arange(rows, device=own_B.device))) / 2
