"""Random batches, and the comparison of a loss with one written again in float64 without torch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from genai.embedding.tuning.interfaces import Embedded


def make(
    rows: int = 5, negatives: int = 2, width: int = 6, *, graded: bool = False, seed: int = 0, **changes: Any
) -> Embedded:
    """Random vectors of length 1; no passage stands in the batch twice."""
    generator = torch.Generator().manual_seed(seed)

    def unit(*shape: int) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)

    values: dict[str, Any] = {
        "queries": unit(rows, width),
        "documents": unit(rows, 1 + negatives, width),
        "pairs": torch.arange(rows) * 3,
        "passages": torch.arange(rows * (1 + negatives)).reshape(rows, 1 + negatives) + 7,
        "labels": torch.rand(rows, 1 + negatives, generator=generator) if graded else None,
        **changes,
    }
    return Embedded(**values)


def check(loss: Callable[[Embedded], torch.Tensor], reference: Callable[[Any, Any], float], batch: Embedded) -> float:
    """Value within 1e-5 relative (float32 against float64), gradient within 1e-4 of central differences."""
    queries, documents = (values.double().numpy().copy() for values in (batch.queries, batch.documents))
    leaves = [batch.queries.clone().requires_grad_(), batch.documents.clone().requires_grad_()]
    found = loss(
        Embedded(
            queries=leaves[0], documents=leaves[1], pairs=batch.pairs, passages=batch.passages, labels=batch.labels
        )
    )
    assert found.dtype == torch.float32 and found.shape == ()
    expected = reference(queries, documents)
    assert found.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    for values, gradient in zip((queries, documents), torch.autograd.grad(found, leaves), strict=True):
        numeric = np.zeros_like(values)
        for place in np.ndindex(values.shape):
            kept, ends = values[place], []
            for step in (1e-5, -1e-5):
                values[place] = kept + step
                ends.append(reference(queries, documents))
            values[place] = kept
            numeric[place] = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(gradient.numpy(), numeric, rtol=1e-4, atol=1e-4)
    return expected


@pytest.fixture
def make_batch() -> Callable[..., Embedded]:
    return make


@pytest.fixture
def check_loss() -> Callable[..., float]:
    return check
