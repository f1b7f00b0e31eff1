"""What a pretraining run leaves behind: the model as a Hugging Face folder with its tokenizer, a GGUF file when asked
for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from genai.config.loading import Loaded
from genai.config.pretrain import PretrainConfig
from genai.jobs.pretrain_model import Architecture, as_transformers
from genai.jobs.pretrain_parts import Parts
from genai.models.describe import licence_of
from genai.models.export import ModelCard, export_gguf, export_hf
from genai.tracking.run import RunDirectory
from genai.training.checkpoints import Checkpoints
from genai.training.parallel.sharded_tensors import is_sharded
from genai.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the results lie."""

    model: Path
    gguf: Path | None


def export(
    parts: Parts, trainer: Trainer, checkpoints: Checkpoints, loaded: Loaded[PretrainConfig], directory: RunDirectory
) -> Places | None:
    """Write the trained model into the run directory; rank 0 does it, all ranks must call it.

    Returns:
        Where the results lie; None on other ranks.
    """
    sharded = any(is_sharded(parameter) for parameter in parts.model.parameters())
    # The last checkpoint holds the weights of the end, from all ranks.
    name = checkpoints.newest_good() if sharded else None
    if not parts.ranks.is_main:
        return None
    model = whole_model(parts.architecture, checkpoints, name) if name is not None else parts.model
    write_model(model, parts.tokenizer, directory.model, _card(parts, trainer, loaded, directory))
    gguf = None
    if "gguf" in loaded.config.export.formats:
        gguf = export_gguf(directory.model, directory.path / f"{directory.name}.gguf")
    return Places(model=directory.model, gguf=gguf)


def write_model(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    card: ModelCard,
    *,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a whole model to `folder`, with its tokenizer; in float32 where no `dtype` is given."""
    exported = as_transformers(model)
    before: Any = exported.generation_config
    # Fresh models have no token that ends a text.
    if before is not None and before.eos_token_id is None:
        before.eos_token_id = tokenizer.eos_token_id
    return export_hf(exported, tokenizer, folder, card=card, dtype=dtype or torch.float32)


def whole_model(architecture: Architecture, checkpoints: Checkpoints, name: str) -> nn.Module:
    """The model with the weights of a checkpoint of either layout, on the CPU."""
    model = architecture.build(torch.device("cpu"))
    weights = checkpoints.whole_weights(name)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(weights[key])
    return model


def _card(parts: Parts, trainer: Trainer, loaded: Loaded[PretrainConfig], directory: RunDirectory) -> ModelCard:
    config, resolved = loaded.config, parts.architecture.resolved
    losses: dict[str, Any] = {"loss": trainer.last_eval.loss if trainer.last_eval else None}
    parent = resolved if parts.architecture.pretrained else None
    return ModelCard(
        name=directory.name,
        base_model=None if parent is None else parent.hub_id or parent.reference,
        licence=None if parent is None else licence_of(parent),
        method=f"pretraining, {config.max_duration}, learning rate {config.optimizer.lr:g}",
        data={"train": parts.inputs.train.fingerprint},
        metrics={key: value for key, value in losses.items() if value is not None},
    )
