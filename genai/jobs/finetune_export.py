"""What a fine-tuning run leaves behind: the model as a Hugging Face folder, the adapter beside it, a GGUF file when
asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from genai.config.finetune import FinetuneConfig
from genai.config.loading import Loaded
from genai.jobs.finetune_comparison import Measured
from genai.jobs.finetune_parts import Parts
from genai.models.adapters import merge_adapter, save_adapter
from genai.models.describe import licence_of
from genai.models.export import ModelCard, export_gguf, export_hf, stored_dtype
from genai.models.loading import fit_embeddings, load_model
from genai.tracking.run import RunDirectory


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the results lie."""

    model: Path
    adapter: Path | None
    gguf: Path | None


def export(parts: Parts, loaded: Loaded[FinetuneConfig], directory: RunDirectory, measured: Measured) -> Places:
    """Write the trained model into the run directory, and the GGUF file when it is asked for."""
    card = _card(parts, loaded, directory, measured)
    adapter = directory.adapter if has_adapter(parts.config) else None
    write_model(parts, directory.model, directory.adapter, card)
    gguf = None
    if "gguf" in loaded.config.export.formats:
        gguf = export_gguf(directory.model, directory.path / f"{directory.name}.gguf")
    return Places(model=directory.model, adapter=adapter, gguf=gguf)


def has_adapter(config: FinetuneConfig) -> bool:
    """Whether the job trains an adapter and not the model's own weights."""
    return config.model.peft_config is not None or config.model.adapter is not None


def method_of(config: FinetuneConfig) -> str:
    """What is trained, in a few words."""
    peft = config.model.peft_config
    if peft is not None:
        return f"{'DoRA' if peft.use_dora else 'LoRA'}, r {peft.r}"
    return "an adapter, continued" if config.model.adapter is not None else "all weights"


def write_model(parts: Parts, folder: Path, adapter: Path, card: ModelCard) -> Path:
    """Write the model as it is now to `folder`; an adapter also, to `adapter`.

    An adapter is merged into its base loaded anew, since the one in training was rounded.
    """
    model: Any = parts.model
    if has_adapter(parts.config):
        save_adapter(model, adapter, base=parts.resolved)
        base = load_model(parts.config.model, parts.resolved, dtype=torch.float32, seed=parts.config.seed)
        fit_embeddings(base, parts.tokenizer)
        model = merge_adapter(base, adapter, base=parts.resolved)
    return export_hf(model, parts.tokenizer, folder, card=card, dtype=stored_dtype(parts.resolved))


def _card(parts: Parts, loaded: Loaded[FinetuneConfig], directory: RunDirectory, measured: Measured) -> ModelCard:
    config = loaded.config
    losses = {"loss before": measured.losses.before, "loss after": measured.losses.after}
    return ModelCard(
        name=directory.name,
        base_model=parts.resolved.hub_id or parts.resolved.reference,
        licence=licence_of(parts.resolved),
        method=f"{method_of(config)}, {config.max_duration}, learning rate {config.optimizer.lr:g}",
        data={"train": parts.train_tokens.fingerprint},
        metrics={key: value for key, value in losses.items() if value is not None},
    )
