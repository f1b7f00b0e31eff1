"""Vectors that can be cut short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F

from genai.embedding.tuning.interfaces import Embedded, Objective
from genai.errors import UsageError


class Matryoshka:
    """A loss over several lengths of the vectors: a weighted sum, each of prefixes scaled to length 1.

    Args:
        objective: the loss of one length.
        dimensions: lengths; the whole vectors are always among them, with weight 1 where they are not named.
        weights: of each length; None: 1.

    Raises:
        UsageError: there are not as many weights as lengths, none is above 0, or a length is named twice.

    Source:
        Kusupati et al. 2022, "Matryoshka Representation Learning", arXiv:2205.13147; sentence-transformers 6.2,
        MatryoshkaLoss.
    """

    def __init__(
        self, objective: Objective, *, dimensions: Sequence[int], weights: Sequence[float] | None = None
    ) -> None:
        if weights is not None and len(weights) != len(dimensions):
            raise UsageError(
                f"there are {len(weights)} weights for {len(dimensions)} dimensions", where="matryoshka.weights"
            )
        if weights and not any(weights):
            raise UsageError("all weights are 0", where="matryoshka.weights")
        if len(set(dimensions)) != len(dimensions):
            raise UsageError("a dimension is named twice", where="matryoshka.dimensions")
        self._objective = objective
        self._weights = dict(zip(dimensions, weights or [1.0] * len(dimensions), strict=True))

    def __call__(self, batch: Embedded) -> torch.Tensor:
        """The weighted sum of the losses.

        Raises:
            UsageError: a dimension is larger than the vectors.
        """
        width = batch.queries.shape[1]
        if max(self._weights) > width:
            raise UsageError(
                f"the vectors have {width} numbers, {max(self._weights)} are asked for", where="matryoshka.dimensions"
            )
        weights = {width: 1.0, **self._weights}
        losses = [
            weight * self._objective(batch if dimension == width else _cut(batch, dimension))
            for dimension, weight in weights.items()
            if weight
        ]
        return torch.stack(losses).sum()


def _cut(batch: Embedded, dimension: int) -> Embedded:
    return replace(
        batch,
        queries=F.normalize(batch.queries[:, :dimension], dim=-1),
        documents=F.normalize(batch.documents[:, :, :dimension], dim=-1),
    )
