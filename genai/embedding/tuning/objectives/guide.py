"""What a frozen encoder says of a batch, to tell false negatives by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


class Guide(Protocol):
    """Met by `genai.embedding.tuning.teachers.EncoderGuide`."""

    def similarity(self, pairs: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
        """Cosines of the queries of some pairs with some passages.

        Args:
            pairs: which, int64 (B,).
            passages: which, int64 (N,).

        Returns:
            float32 (B, N), where `pairs` lies.
        """


def false_negatives(
    guide: Guide, pairs_B: torch.Tensor, passages_N: torch.Tensor, positives_B: torch.Tensor, margin: float
) -> torch.Tensor:
    """Which documents the guide takes for answers: closer to the query than its own one, less `margin`.

    Args:
        guide: the frozen encoder.
        pairs_B: which pair each row is.
        passages_N: which passage each document is.
        positives_B: the place of each row's own document among the N.
        margin: how much farther a document may be and is taken for an answer all the same.

    Returns:
        bool (B, N); a row's own document is among them when `margin` is above 0.

    Source:
        Solatorio 2024, "GISTEmbed", arXiv:2402.16829.
    """
    similarity_BN = guide.similarity(pairs_B, passages_N)
    own_B1 = similarity_BN.gather(1, positives_B[:, None])
    return similarity_BN > own_B1 - margin
