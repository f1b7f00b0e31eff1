from collections.abc import Callable
from typing import Any

import pytest
import torch

from genai.config.embed_finetune import (
    BinaryCrossEntropyConfig,
    CoSENTConfig,
    DistillationConfig,
    ListwiseConfig,
    MarginMSEConfig,
    MatryoshkaConfig,
    MultipleNegativesConfig,
)
from genai.embedding.tuning.interfaces import Embedded
from genai.embedding.tuning.objectives import build_objective
from genai.embedding.tuning.objectives.cosent import cosent
from genai.embedding.tuning.objectives.distillation import distillation
from genai.embedding.tuning.objectives.in_batch import multiple_negatives_ranking
from genai.embedding.tuning.objectives.margin_mse import margin_mse
from genai.errors import UsageError


class Same:
    """A guide to which everything is alike."""

    def similarity(self, pairs: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(pairs), len(passages))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            MultipleNegativesConfig(scale=7.0, symmetric=True),
            lambda batch: multiple_negatives_ranking(batch, scale=7.0, symmetric=True),
        ),
        (MarginMSEConfig(scale=3.0), lambda batch: margin_mse(batch, scale=3.0)),
        (
            DistillationConfig(teacher="t", scale=3.0, teacher_scale=2.0),
            lambda batch: distillation(batch, scale=3.0, teacher_scale=2.0),
        ),
        (CoSENTConfig(scale=3.0), lambda batch: cosent(batch, scale=3.0)),
    ],
)
def test_every_setting_arrives(make_batch: Callable[..., Embedded], config: Any, expected: Any) -> None:
    batch = make_batch(graded=True)
    assert build_objective(config)(batch).item() == expected(batch).item()
    assert build_objective(config)(batch).item() != build_objective(type(config)(**_teacher(config)))(batch).item()


def _teacher(config: Any) -> dict[str, str]:
    return {"teacher": "t"} if isinstance(config, DistillationConfig) else {}


def test_guide_and_matryoshka_arrive(make_batch: Callable[..., Embedded]) -> None:
    batch = make_batch(negatives=1)
    config = MultipleNegativesConfig(guide="g", guide_margin=0.1)
    # within the margin everything is an answer, so that nothing but the own document is left
    assert build_objective(config, guide=Same())(batch).item() == 0
    plain = build_objective(MultipleNegativesConfig())
    shorter = build_objective(MultipleNegativesConfig(), matryoshka=MatryoshkaConfig(dimensions=[2], weights=[3.0]))
    cut = make_batch(
        negatives=1,
        queries=torch.nn.functional.normalize(batch.queries[:, :2], dim=-1),
        documents=torch.nn.functional.normalize(batch.documents[..., :2], dim=-1),
    )
    assert shorter(batch).item() == pytest.approx((plain(batch) + 3 * plain(cut)).item())


@pytest.mark.parametrize("config", [BinaryCrossEntropyConfig(), ListwiseConfig()])
def test_losses_of_cross_encoders_are_refused(config: Any) -> None:
    with pytest.raises(UsageError, match=rf"loss\.name: {config.name} is a loss of cross-encoders"):
        build_objective(config)


def test_a_guide_belongs_to_its_config() -> None:
    with pytest.raises(ValueError, match="a guide is given where the config names one"):
        build_objective(MultipleNegativesConfig(guide="g"))
