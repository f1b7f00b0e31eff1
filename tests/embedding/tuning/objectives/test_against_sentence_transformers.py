"""Values and gradients of sentence-transformers' own losses, where it is installed: it is no dependency of ours."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from genai.embedding.tuning.interfaces import Embedded
from genai.embedding.tuning.objectives.cosent import cosent
from genai.embedding.tuning.objectives.distillation import distillation
from genai.embedding.tuning.objectives.in_batch import multiple_negatives_ranking
from genai.embedding.tuning.objectives.margin_mse import margin_mse
from genai.embedding.tuning.objectives.matryoshka import Matryoshka
from genai.embedding.tuning.objectives.reranking import binary_cross_entropy

pytestmark = pytest.mark.integration
Make = Callable[..., Embedded]


@pytest.fixture(scope="module")
def theirs() -> Any:
    pytest.importorskip("sentence_transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers.sentence_transformer import losses
    return losses


class Ready(nn.Module):
    """A model whose vectors are its input."""

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"sentence_embedding": features["vectors"]}

    def get_embedding_dimension(self) -> int:
        return 6


def compare(
    ours: Callable[[Embedded], torch.Tensor],
    expected: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    batch: Embedded,
    *,
    cosine: bool = False,
) -> None:
    """1e-5, of values and gradients; `expected` takes queries (B, D) and documents (B, 1 + K, D).

    With `cosine` theirs scales vectors to length 1 within the loss; then so is done before ours.
    """

    def mine(queries: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
        if cosine:
            queries, documents = (nn.functional.normalize(values, dim=-1) for values in (queries, documents))
        return ours(replace(batch, queries=queries, documents=documents))

    found = []
    for loss in (mine, expected):
        leaves = [batch.queries.clone().requires_grad_(), batch.documents.clone().requires_grad_()]
        value = loss(*leaves)
        found.append((value.detach(), *torch.autograd.grad(value, leaves)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def columns(queries: torch.Tensor, documents: torch.Tensor) -> list[torch.Tensor]:
    return [queries, *documents.unbind(1)]


@pytest.mark.parametrize("negatives", [0, 1, 3])
def test_multiple_negatives(theirs: Any, make_batch: Make, negatives: int) -> None:
    def dot(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return one @ other.T

    loss = theirs.MultipleNegativesRankingLoss(Ready(), scale=20.0, similarity_fct=dot)
    batch = make_batch(negatives=negatives)
    compare(multiple_negatives_ranking, lambda q, d: loss.compute_loss_from_embeddings(columns(q, d), None), batch)
    both = theirs.MultipleNegativesRankingLoss(
        Ready(),
        scale=20.0,
        similarity_fct=dot,
        directions=("query_to_doc", "doc_to_query"),
        partition_mode="per_direction",
    )
    compare(
        lambda each: multiple_negatives_ranking(each, symmetric=True),
        lambda q, d: both.compute_loss_from_embeddings(columns(q, d), None),
        batch,
    )


@pytest.mark.parametrize("negatives", [0, 1])
@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_gist(theirs: Any, make_batch: Make, negatives: int, margin: float) -> None:
    batch, guiding = make_batch(negatives=negatives), make_batch(negatives=negatives, seed=5)
    flat = guiding.documents.flatten(0, 1)

    class Guide:
        def similarity(self, pairs: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
            return guiding.queries @ flat.T

    loss = theirs.GISTEmbedLoss.__new__(theirs.GISTEmbedLoss)  # its __init__ asks both models for tokenizers
    nn.Module.__init__(loss)
    loss.model, loss.temperature, loss.similarity_fct = Ready(), 0.05, nn.CosineSimilarity(dim=-1)
    loss.must_retokenize, loss.margin_strategy, loss.margin = False, "absolute", margin
    loss.contrast_anchors = loss.contrast_positives = loss.gather_across_devices = False
    loss.cross_entropy_loss = nn.CrossEntropyLoss()

    class Guiding(nn.Module):
        def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {"sentence_embedding": features["guide"]}

    loss.guide = Guiding()

    def expected(queries: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
        both = zip(columns(queries, documents), columns(guiding.queries, guiding.documents), strict=True)
        value: torch.Tensor = loss([{"vectors": mine, "guide": guide} for mine, guide in both], None)
        return value

    compare(
        lambda each: multiple_negatives_ranking(each, guide=Guide(), guide_margin=margin), expected, batch, cosine=True
    )


@pytest.mark.parametrize("negatives", [1, 3])
def test_margin_mse(theirs: Any, make_batch: Make, negatives: int) -> None:
    batch, loss = make_batch(negatives=negatives, graded=True), theirs.MarginMSELoss(Ready())
    compare(margin_mse, lambda q, d: loss.compute_loss_from_embeddings(columns(q, d), batch.labels), batch)


def test_distillation(theirs: Any, make_batch: Make) -> None:
    batch = make_batch(negatives=3, graded=True)
    loss = theirs.DistillKLDivLoss(Ready(), student_temperature=0.05, teacher_temperature=0.1)
    compare(
        lambda each: distillation(each, scale=20.0, teacher_scale=10.0),
        # they multiply by the student's temperature squared
        lambda q, d: loss.compute_loss_from_embeddings(columns(q, d), batch.labels) * 400,
        batch,
    )


def test_cosent(theirs: Any, make_batch: Make) -> None:
    grades = torch.tensor([[3.0], [1.0], [3.0], [0.0], [2.0]])
    batch, loss = make_batch(negatives=0, labels=grades), theirs.CoSENTLoss(Ready())
    compare(cosent, lambda q, d: loss.compute_loss_from_embeddings(columns(q, d), grades), batch, cosine=True)


def test_matryoshka(theirs: Any, make_batch: Make) -> None:
    inner = theirs.MultipleNegativesRankingLoss(Ready())
    loss = theirs.MatryoshkaLoss(inner.model, inner, [6, 4, 2], [1.0, 0.5, 2.0])

    def expected(queries: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = loss([{"vectors": each} for each in columns(queries, documents)], torch.zeros(0))
        return value

    ours = Matryoshka(multiple_negatives_ranking, dimensions=[6, 4, 2], weights=[1.0, 0.5, 2.0])
    compare(ours, expected, make_batch(negatives=1), cosine=True)


def test_binary_cross_entropy() -> None:
    """Theirs is this call of torch, over all pairs of a batch."""
    scores = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[1.0, 0.0, 0.0]]).expand(4, 3)
    expected = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.0))(scores.flatten(), targets.flatten())
    torch.testing.assert_close(binary_cross_entropy(scores, positive_weight=2.0).mean(), expected)
