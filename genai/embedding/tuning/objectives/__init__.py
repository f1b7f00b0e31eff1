"""Losses over vectors, one a file: each looks at a global batch of `genai.embedding.tuning.interfaces.Embedded` and
gives the mean over its rows, in nats where it is a likelihood.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from genai.config.embed_finetune import (
    CoSENTConfig,
    DistillationConfig,
    MarginMSEConfig,
    MatryoshkaConfig,
    MultipleNegativesConfig,
    RetrievalLossConfig,
)
from genai.embedding.tuning.interfaces import Objective
from genai.embedding.tuning.objectives.cosent import cosent
from genai.embedding.tuning.objectives.distillation import distillation
from genai.embedding.tuning.objectives.in_batch import multiple_negatives_ranking
from genai.embedding.tuning.objectives.margin_mse import margin_mse
from genai.embedding.tuning.objectives.matryoshka import Matryoshka
from genai.errors import UsageError

if TYPE_CHECKING:
    from genai.embedding.tuning.objectives.guide import Guide

__all__ = ["build_objective"]


def build_objective(
    config: RetrievalLossConfig, *, matryoshka: MatryoshkaConfig | None = None, guide: Guide | None = None
) -> Objective:
    """The loss that the config describes.

    Args:
        config: the section `loss`.
        matryoshka: the section of that name: the loss over several lengths of the vectors.
        guide: the encoder that `loss.guide` names, see `genai.embedding.tuning.teachers.open_guide`.

    Raises:
        UsageError: the loss is one of cross-encoders, or the weights are not as many as the dimensions.
    """
    objective = _objective(config, guide)
    if matryoshka is None:
        return objective
    return Matryoshka(objective, dimensions=matryoshka.dimensions, weights=matryoshka.weights)


def _objective(config: RetrievalLossConfig, guide: Guide | None) -> Objective:
    match config:
        case MultipleNegativesConfig():
            if (guide is None) != (config.guide is None):
                raise ValueError("a guide is given where the config names one, and only there")
            return partial(
                multiple_negatives_ranking,
                scale=config.scale,
                symmetric=config.symmetric,
                guide=guide,
                guide_margin=config.guide_margin,
            )
        case MarginMSEConfig():
            return partial(margin_mse, scale=config.scale)
        case DistillationConfig():
            return partial(distillation, scale=config.scale, teacher_scale=config.teacher_scale)
        case CoSENTConfig():
            return partial(cosent, scale=config.scale)
    raise UsageError(
        f"{config.name} is a loss of cross-encoders",
        where="loss.name",
        fix="take multiple_negatives_ranking, or model.name: cross_encoder",
    )
