"""How texts become vectors: the section that every job with an encoder shares. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genai.config.fields import PositiveFloat, PositiveInt


@dataclass(frozen=True, kw_only=True)
class EmbeddingConfig:
    """An encoder and everything that its vectors depend on."""

    model: str
    """A model reference: gallery:NAME, hf:ORG/NAME, a folder (sentence-transformers, transformers, model2vec or
    wordllama), s3://..., runs:RUN, registry:NAME@ALIAS; with backend: endpoint the name that the endpoint knows it
    by."""
    backend: Literal["auto", "torch", "onnx", "static", "endpoint"] = "auto"
    """torch: in this process; onnx: an int8 ONNX file, made once from the model; static: a table of token vectors, no
    network at all; endpoint: an OpenAI-compatible server; auto: static for such a folder, endpoint with base_url,
    else torch."""
    revision: str | None = None
    """Branch, tag or commit on the Hugging Face hub."""
    trust_remote_code: bool = False
    """Run Python that comes with the model. Leave it off unless you have read that code."""
    document_prompt: str | None = None
    """Put before every document, e.g. "passage: "; by default what the model's folder says."""
    query_prompt: str | None = None
    """Put before every query, e.g. "query: "; by default what the model's folder says."""
    pooling: Literal["mean", "cls", "last_token", "max"] | None = None
    """From token vectors to one; by default what the model's folder says, else mean."""
    normalize: bool = True
    """Scale every vector to length 1."""
    dimension: PositiveInt | None = None
    """Keep only the first numbers of every vector, for models trained that way (Matryoshka); by default all."""
    max_tokens: PositiveInt | None = None
    """Longer texts are cut; by default what the model's folder says."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of backend torch; auto: bf16 where the processor has it."""
    batch_size: PositiveInt = 32
    """Texts a forward pass, or a request."""
    base_url: str | None = None
    """Of an OpenAI-compatible endpoint, e.g. https://api.openai.com/v1."""
    api_key: str | None = None
    """Of the endpoint: env:NAME or file:PATH."""
    timeout_s: PositiveFloat = 60.0
    """How long a request to the endpoint may take; it is repeated a few times with pauses."""


@dataclass(frozen=True, kw_only=True)
class RerankerConfig:
    """What puts the best candidates of a search into a better order."""

    name: Literal["cross_encoder", "endpoint", "mmr"] = "cross_encoder"
    """cross_encoder: a model reads query and text together; endpoint: a server with POST /rerank; mmr: maximal
    marginal relevance, which passes over what resembles a better result."""
    model: str | None = None
    """A model reference, or the endpoint's name for it; not for mmr."""
    base_url: str | None = None
    """Of the endpoint; /rerank is put after it."""
    api_key: str | None = None
    """Of the endpoint: env:NAME or file:PATH."""
    candidates: PositiveInt = 50
    """How many results of the first search are looked at."""
    diversity: float = 0.3
    """mmr: 0 only relevance, 1 only difference."""
    timeout_s: PositiveFloat = 30.0
    """How long a request to the endpoint may take."""
