"""The three kinds of models that can be pretrained, behind one interface. Imports torch.

An `Architecture` is known before any weight exists: its shapes for predictions, its vocabulary for the check of the
shards. Building it gives the loss that the trainer turns.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from genai.config.finetune import HFCausalLMConfig
from genai.config.loading import Loaded
from genai.config.pretrain import HFModelConfig, LlamaModelConfig, MPTModelConfig, PretrainConfig
from genai.jobs.problems import at
from genai.models.llama import Llama, LlamaConfig, load_llama, to_transformers
from genai.models.loading import build_meta, load_model
from genai.models.mpt import build_mpt, mpt_config
from genai.models.references import ResolvedModel, resolve_model
from genai.training.forward import CausalLMLoss
from genai.training.native_loss import LlamaLoss
from genai.training.proofs.probe import ProvableLoss

VOCABULARY_MULTIPLE = 64
"""A vocabulary of our own choice is rounded up to this, which products like."""
FEED_FORWARD_MULTIPLE = 64
_RATIO = 8 / 3
"""Width of a gated feed-forward layer that has as many weights as a plain one of four times the width."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What is going to be trained."""

    name: str
    """How it is called to the user."""
    meta: PreTrainedModel
    """As a model of transformers on the meta device: its shapes."""
    vocab_size: int
    """Rows of the embedding."""
    resolved: ResolvedModel | None
    """The pretrained model that it goes on from, or whose architecture it is."""
    pretrained: bool
    """Whether its weights are those of `resolved`."""
    build: Callable[[torch.device], nn.Module]
    """Makes it, with its weights, on a device."""

    @property
    def fingerprint(self) -> str:
        """Of the weights that it starts from; of the shape where they are random."""
        if self.pretrained and self.resolved is not None:
            return self.resolved.weights_fingerprint
        values = self.meta.config.to_dict()
        values.pop("transformers_version", None)
        return "random:" + hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()

    @property
    def num_parameters(self) -> int:
        """Weights, tied ones once."""
        return sum(parameter.numel() for parameter in self.meta.parameters())

    def loss(self, model: nn.Module, config: PretrainConfig, device: torch.device) -> ProvableLoss:
        """The forward pass and loss of what `build` gave."""
        kind = LlamaLoss if isinstance(model, Llama) else CausalLMLoss
        return kind(model, precision=config.precision, device=device, z_loss=config.loss.z_loss)


def describe(loaded: Loaded[PretrainConfig], *, num_tokens: int) -> Architecture:
    """The job's architecture, its references resolved.

    Args:
        loaded: the job file.
        num_tokens: how many tokens the tokenizer has.

    Raises:
        ConfigError: the sizes do not fit together, with file:line:column.
    """
    model = loaded.config.model
    with at(loaded, "model"):
        match model:
            case HFModelConfig():
                return _hugging_face(loaded, model)
            case MPTModelConfig():
                return _mpt(loaded.config, model)
            case LlamaModelConfig():
                return _llama(loaded, model, num_tokens)


def as_transformers(model: Any) -> PreTrainedModel:
    """The model as one of transformers, for the export; weights are shared, not copied."""
    return to_transformers(model) if isinstance(model, Llama) else model


def _hugging_face(loaded: Loaded[PretrainConfig], model: HFModelConfig) -> Architecture:
    config = loaded.config
    resolved = _resolve(loaded, model.pretrained_model_name_or_path, model.revision)
    wanted = HFCausalLMConfig(**asdict(model))
    meta = build_meta(wanted, resolved)
    return Architecture(
        name=resolved.reference if model.pretrained else f"{resolved.reference}, random weights",
        meta=meta,
        vocab_size=int(meta.config.get_text_config().vocab_size),
        resolved=resolved,
        pretrained=model.pretrained,
        build=lambda device: load_model(wanted, resolved, dtype=torch.float32, device=device, seed=config.seed),
    )


def _mpt(config: PretrainConfig, model: MPTModelConfig) -> Architecture:
    described = mpt_config(model, max_seq_len=config.max_seq_len)
    with torch.device("meta"):
        meta = build_mpt(described)
    meta.tie_weights()
    return Architecture(
        name="mpt_causal_lm, random weights",
        meta=meta,
        vocab_size=model.vocab_size,
        resolved=None,
        pretrained=False,
        build=lambda device: build_mpt(described, seed=config.seed).to(device),  # type: ignore[arg-type]
    )


def _llama(loaded: Loaded[PretrainConfig], model: LlamaModelConfig, num_tokens: int) -> Architecture:
    config, resolved = loaded.config, None
    if model.pretrained_model_name_or_path is not None:
        resolved = _resolve(loaded, model.pretrained_model_name_or_path, None)
        values = json.loads((resolved.path / "config.json").read_text(encoding="utf-8"))
        shape = LlamaConfig.from_hf(values, where=str(resolved.path / "config.json"))
    else:
        shape = _llama_shape(model, config, num_tokens)
    with torch.device("meta"):
        meta = to_transformers(Llama(shape))

    def build(device: torch.device) -> nn.Module:
        if resolved is not None:
            return load_llama(resolved.path, device=device)
        return Llama(shape, seed=config.seed).to(device)

    return Architecture(
        name="llama, random weights" if resolved is None else f"llama, {resolved.reference}",
        meta=meta,
        vocab_size=shape.vocab_size,
        resolved=resolved,
        pretrained=resolved is not None,
        build=build,
    )


def _llama_shape(model: LlamaModelConfig, config: PretrainConfig, num_tokens: int) -> LlamaConfig:
    assert model.d_model and model.n_layers and model.n_heads  # held by genai.config.checks_pretrain
    return LlamaConfig(
        vocab_size=model.vocab_size or _round_up(num_tokens, VOCABULARY_MULTIPLE),
        d_model=model.d_model,
        n_layers=model.n_layers,
        n_heads=model.n_heads,
        n_kv_heads=model.n_kv_heads,
        head_dim=model.head_dim,
        d_ff=_round_up(model.d_model * (model.expansion_ratio or _RATIO), FEED_FORWARD_MULTIPLE),
        max_seq_len=model.max_seq_len or config.max_seq_len,
        rope_theta=model.rope_theta,
        rope_scaling=model.rope_scaling,
        norm_eps=model.norm_eps,
        tie_embeddings=model.tie_word_embeddings,
    )


def _round_up(value: float, multiple: int) -> int:
    return -int(-value // multiple) * multiple


def _resolve(loaded: Loaded[PretrainConfig], reference: str, revision: str | None) -> ResolvedModel:
    with at(loaded, "model.pretrained_model_name_or_path"):
        return resolve_model(reference, runs_dir=loaded.config.runs_dir, revision=revision)
