"""The encoder as it is before training: what negatives are mined with, and what the trained one is held against."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genai.config.embed_finetune import CrossEncoderConfig, EmbedFinetuneConfig
from genai.config.embedding import EmbeddingConfig
from genai.jobs.text_vectors import KeptVectors
from genai.storage.atomic import cache_dir

if TYPE_CHECKING:
    from genai.embedding.encoder import TextEncoder
    from genai.embedding.endpoint import EndpointEncoder


def base_vectors(config: EmbedFinetuneConfig) -> KeptVectors:
    """Vectors by the encoder as it is before training: the one that is tuned, or a reranker's first stage."""
    return KeptVectors(open_base(config), cache_dir() / "vectors")


def base_encoder(config: EmbedFinetuneConfig) -> EmbeddingConfig:
    """The encoder before training, as a section `embedding`."""
    model = config.model
    if isinstance(model, CrossEncoderConfig):
        return EmbeddingConfig(model=model.first_stage)
    return EmbeddingConfig(
        model=model.pretrained_model_name_or_path,
        revision=model.revision,
        trust_remote_code=model.trust_remote_code,
        document_prompt=model.document_prompt,
        query_prompt=model.query_prompt,
        pooling=model.pooling,
        max_tokens=model.max_tokens,
    )


def open_base(config: EmbedFinetuneConfig) -> TextEncoder | EndpointEncoder:
    """The encoder itself; no weights are loaded before the first text."""
    from genai.embedding.opening import open_encoder

    return open_encoder(base_encoder(config), runs_dir=config.runs_dir, num_threads=config.num_threads)
