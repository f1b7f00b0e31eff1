"""The two kinds of models that can be tuned, encoders and rerankers, behind one shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from genai.config.embed_finetune import (
    CrossEncoderConfig,
    EmbedFinetuneConfig,
    MultipleNegativesConfig,
    SentenceEncoderConfig,
)
from genai.config.embedding import EmbeddingConfig, RerankerConfig
from genai.embedding.opening import open_encoder, open_reranker
from genai.embedding.tuning.interfaces import TextEmbedder, TokenTable
from genai.embedding.tuning.loss import EncoderLoss
from genai.embedding.tuning.model import LiveEncoder, TrainableEncoder, save_encoder
from genai.embedding.tuning.objectives import build_objective
from genai.embedding.tuning.reranker import RerankerLoss, TrainableReranker, save_reranker
from genai.embedding.tuning.teachers import open_guide
from genai.training.interfaces import BatchLoss


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Every text of a job."""

    queries: Sequence[str]
    """Of each pair, the held-out ones for validation behind those that are trained on."""
    passages: Sequence[str]
    """All that is trained on or searched, the corpus first."""
    tokens: TokenTable
    """Of both."""


class Kind(Protocol):
    """What differs between the kinds of models that can be tuned."""

    model: Any
    """A module with `width` (of an encoder), `tokens` and `precision`."""

    def loss(self, texts: Texts, device: torch.device) -> BatchLoss:
        """What a batch costs."""

    def adapted(self) -> Any:
        """The peft model inside, where there is one."""

    def live(self) -> TextEmbedder | None:
        """The model as it is now, to mine with; None where another one mines."""

    def save(self, source: Path, target: Path) -> None:
        """Write it."""

    def distance(self, folder: Path, queries: Sequence[str], texts: Sequence[str]) -> float:
        """How far what the model in that folder says is from what this one says."""


class EncoderKind:
    """An encoder: texts to vectors."""

    def __init__(self, folder: Path, config: EmbedFinetuneConfig, device: torch.device) -> None:
        assert isinstance(config.model, SentenceEncoderConfig)
        self._config = config
        self.model = TrainableEncoder.load(folder, config.model, precision=config.precision, device=device)

    def loss(self, texts: Texts, device: torch.device) -> BatchLoss:
        """The objective over the vectors of whole batches."""
        config = self._config
        guide = None
        if isinstance(config.loss, MultipleNegativesConfig):
            guide = open_guide(
                config.loss,
                queries=texts.queries,
                passages=texts.passages,
                runs_dir=config.runs_dir,
                num_threads=config.num_threads,
            )
        objective = build_objective(config.loss, matryoshka=config.matryoshka, guide=guide)
        return EncoderLoss(self.model, texts.tokens, objective, device=device)

    def adapted(self) -> Any:
        """The transformer."""
        return self.model.transformer

    def live(self) -> TextEmbedder:
        """The encoder in training."""
        return LiveEncoder(self.model)

    def save(self, source: Path, target: Path) -> None:
        """A sentence-transformers folder."""
        save_encoder(self.model, source, target)

    def distance(self, folder: Path, queries: Sequence[str], texts: Sequence[str]) -> float:
        """The largest distance of two vectors of the same text."""
        written = open_encoder(EmbeddingConfig(model=str(folder)), num_threads=self._config.num_threads)
        live = self.live()
        pairs = [
            (live.embed_queries(queries), written.embed_queries(queries)),
            (live.embed_documents(texts), written.embed_documents(texts)),
        ]
        return max(float(np.linalg.norm(one - other, axis=1).max()) for one, other in pairs)


class RerankerKind:
    """A cross-encoder: a query and a text to one number."""

    def __init__(self, folder: Path, config: EmbedFinetuneConfig, device: torch.device) -> None:
        assert isinstance(config.model, CrossEncoderConfig)
        self._config = config
        self.model = TrainableReranker.load(
            folder, config.model, precision=config.precision, device=device, seed=config.seed
        )

    def loss(self, texts: Texts, device: torch.device) -> BatchLoss:
        """Each row by itself."""
        return RerankerLoss(self.model, texts.queries, texts.passages, self._config.loss, device=device)

    def adapted(self) -> Any:
        """The classifier."""
        return self.model.network

    def live(self) -> None:
        """A reranker cannot search: its first stage mines, and stays as it is."""

    def save(self, source: Path, target: Path) -> None:
        """A folder that CrossEncoder loads."""
        save_reranker(self.model, source, target)

    def distance(self, folder: Path, queries: Sequence[str], texts: Sequence[str]) -> float:
        """The largest difference of two scores of the same pair."""
        written = open_reranker(RerankerConfig(model=str(folder)), num_threads=self._config.num_threads)
        live = self.model.as_scorer()
        both = [(live.score(query, texts), written.score(query, texts)) for query in queries]
        return max(float(np.abs(np.subtract(one, other)).max()) for one, other in both)


def open_kind(source: Path, config: EmbedFinetuneConfig, device: torch.device) -> Kind:
    """The model of a folder, as the section `model` describes it."""
    if isinstance(config.model, CrossEncoderConfig):
        return RerankerKind(source, config, device)
    return EncoderKind(source, config, device)
