"""From the config's section to an encoder or a reranker. Importing this costs no numpy and no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.config.embedding import EmbeddingConfig, RerankerConfig
from genai.errors import GenaiError, UsageError
from genai.models import hub
from genai.models.fingerprint import fingerprint
from genai.models.references import resolve_model
from genai.storage import fetch, is_remote
from genai.storage.atomic import cache_dir

if TYPE_CHECKING:
    from genai.embedding.cross_encoder import CrossEncoder
    from genai.embedding.encoder import TextEncoder, TokenModel
    from genai.embedding.endpoint import EndpointEncoder
    from genai.embedding.rerank_endpoint import EndpointReranker
    from genai.embedding.settings import FolderSettings
    from genai.embedding.static_encoder import StaticFolder


def open_encoder(
    config: EmbeddingConfig, *, runs_dir: str | Path = "runs", num_threads: int | None = None
) -> TextEncoder | EndpointEncoder:
    """The encoder that the config describes. Its files are fetched now; weights are loaded by the first text.

    Args:
        config: the section `embedding`.
        runs_dir: where run directories lie, for `runs:RUN`.
        num_threads: threads of the model; None takes what the library takes.

    Raises:
        UsageError: no such model, a setting that it cannot have, or a part that genai cannot run.
        CredentialsError: the hub wants a token.
        DataError: its files are damaged.
        GenaiError: it could not be fetched.
    """
    if config.backend == "endpoint" or (config.backend == "auto" and config.base_url is not None):
        from genai.embedding.endpoint import EndpointEncoder

        return EndpointEncoder(config)
    from genai.embedding.static_encoder import find_static

    folder = find_folder(config.model, config.revision, runs_dir)
    table = find_static(folder)
    if table is not None and config.backend in ("auto", "static"):
        return _static_encoder(config, folder, table)
    if table is not None:
        raise UsageError(
            f"{config.model} is a table of vectors", where="embedding.backend", fix="write static, or auto"
        )
    if config.backend == "static":
        raise UsageError(
            f"{config.model} is a transformer, no table of vectors", where="embedding.backend", fix="write torch"
        )
    return _transformer_encoder(config, folder, num_threads)


def open_reranker(
    config: RerankerConfig, *, runs_dir: str | Path = "runs", num_threads: int | None = None
) -> CrossEncoder | EndpointReranker:
    """The reranker that the config describes; `mmr` is none, it needs no model.

    Args:
        config: the section `search.reranker`.
        runs_dir: where run directories lie.
        num_threads: threads of the model; None takes what the library takes.

    Raises:
        UsageError, CredentialsError, DataError, GenaiError: see `open_encoder`.
    """
    if config.name == "endpoint":
        from genai.embedding.rerank_endpoint import EndpointReranker

        return EndpointReranker(config)
    if config.name != "cross_encoder":
        raise ValueError(f"{config.name} is no model")
    if config.model is None:
        raise UsageError("a cross-encoder needs a model", where="search.reranker.model")
    from genai.embedding.cross_encoder import CrossEncoder

    return CrossEncoder(find_folder(config.model, None, runs_dir), num_threads=num_threads)


def find_folder(reference: str, revision: str | None, runs_dir: str | Path) -> Path:
    """The folder of an encoder or reranker on this machine, fetched where need be; unlike that of a language model it
    need not have a config.json.

    Args:
        reference: a model reference.
        revision: on the hub.
        runs_dir: where run directories lie, for `runs:RUN`.

    Raises:
        UsageError, CredentialsError, GenaiError: see `open_encoder`.
    """
    from genai.embedding.settings import read_modules
    from genai.embedding.static_encoder import find_static

    folder: Path | None = Path(reference.removeprefix("file://")).expanduser()
    if is_remote(reference):
        if hub.is_offline():
            raise GenaiError(f"{reference} was not asked for, GENAI_OFFLINE is set")
        folder = fetch(reference, cache_dir() / "buckets")
    if folder is not None and folder.is_dir() and (read_modules(folder) or find_static(folder)):
        return folder
    return resolve_model(reference, runs_dir=runs_dir, revision=revision).path


def _static_encoder(config: EmbeddingConfig, folder: Path, table: StaticFolder) -> TextEncoder:
    from genai.embedding.encoder import EncoderSettings, TextEncoder
    from genai.embedding.settings import read_prompts
    from genai.embedding.static_encoder import StaticModel, static_tokenizer

    query_prompt, document_prompt = read_prompts(folder)
    settings = EncoderSettings(
        model=config.model,
        width=table.width,
        dimension=_dimension(config, table.width),
        max_length=config.max_tokens or table.max_length,
        document_prompt=_chosen(config.document_prompt, document_prompt),
        query_prompt=_chosen(config.query_prompt, query_prompt),
        normalize=config.normalize,
        batch_size=config.batch_size,
    )
    return TextEncoder(
        settings,
        fingerprint=lambda: _fingerprint(folder, settings, backend="static"),
        tokenizer=lambda: static_tokenizer(table),
        model=lambda: StaticModel(table),
    )


def _transformer_encoder(config: EmbeddingConfig, folder: Path, num_threads: int | None) -> TextEncoder:
    from genai.embedding.encoder import EncoderSettings, TextEncoder
    from genai.embedding.settings import read_settings
    from genai.embedding.tokenizing import load_tokenizer

    found = read_settings(folder)
    if config.max_tokens is not None and found.max_positions is not None and config.max_tokens > found.max_positions:
        raise UsageError(
            f"{config.model} reads at most {found.max_positions} tokens, not {config.max_tokens}",
            where="embedding.max_tokens",
        )
    settings = EncoderSettings(
        model=config.model,
        width=found.width,
        dimension=_dimension(config, found.width),
        max_length=config.max_tokens or found.max_length,
        document_prompt=_chosen(config.document_prompt, found.document_prompt),
        query_prompt=_chosen(config.query_prompt, found.query_prompt),
        normalize=config.normalize,
        batch_size=config.batch_size,
    )
    pooling = config.pooling or found.pooling or "mean"
    backend = "torch"
    if config.backend == "onnx":
        from genai.embedding.onnx_export import RECIPE

        backend = f"onnx-int8-{RECIPE}"
    return TextEncoder(
        settings,
        fingerprint=lambda: _fingerprint(folder, settings, backend=backend, pooling=pooling),
        tokenizer=lambda: load_tokenizer(found.transformer, lowercase=found.lowercase),
        model=lambda: _transformer_model(config, found, pooling, num_threads),
    )


def _transformer_model(
    config: EmbeddingConfig, found: FolderSettings, pooling: Any, num_threads: int | None
) -> TokenModel:
    from genai.embedding.pooling import load_dense, with_layers

    layers = [load_dense(layer) for layer in found.dense]
    if config.backend == "onnx":
        from genai.embedding.onnx_encoder import OnnxModel
        from genai.embedding.onnx_export import exported

        file = exported(found.transformer, trust_remote_code=config.trust_remote_code)
        return with_layers(
            OnnxModel(file, pooling=pooling, pad_token_id=found.pad_token_id, num_threads=num_threads), layers
        )
    from genai.embedding.torch_encoder import TorchModel

    model = TorchModel(
        found.transformer,
        pooling=pooling,
        pad_token_id=found.pad_token_id,
        precision=config.precision,
        trust_remote_code=config.trust_remote_code,
        num_threads=num_threads,
    )
    return with_layers(model, layers)


def _dimension(config: EmbeddingConfig, width: int) -> int:
    if config.dimension is not None and config.dimension > width:
        raise UsageError(f"{config.model} has vectors of {width} numbers", where="embedding.dimension")
    return config.dimension or width


def _chosen(stated: str | None, found: str) -> str:
    return found if stated is None else stated


def _fingerprint(folder: Path, settings: Any, *, backend: str, pooling: str | None = None) -> str:
    """Of all that the vectors depend on.

    The revision's name is left out, for its files are in it. bfloat16 and float32 count as one: their vectors have a
    cosine above 0.999, so that an index made on one machine is searched on another.
    """
    from genai.embedding.encoder import fingerprint_of

    return fingerprint_of(
        {
            "backend": backend,
            "files": fingerprint(folder),
            "pooling": pooling,
            "document_prompt": settings.document_prompt,
            "query_prompt": settings.query_prompt,
            "normalize": settings.normalize,
            "dimension": settings.dimension,
            "max_tokens": settings.max_length,
        }
    )
