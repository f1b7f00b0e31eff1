"""Opens what an index is made of: its folder, its config, encoder, engine and reranker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from genai.config.dialect import dump
from genai.config.embedding import EmbeddingConfig
from genai.config.index import IndexConfig
from genai.config.loading import Loaded, load
from genai.errors import DataError, UsageError
from genai.index.ledger import Ledger
from genai.storage.atomic import safe_name, write_text

if TYPE_CHECKING:
    from genai.index.interfaces import Encoder, Engine, Reranker
    from genai.index.search import Index

CONFIG = "config.yaml"
"""Name of the file, in an index's folder, that holds the job file of its last sync, unresolved."""
EncoderOf = Callable[[EmbeddingConfig], "Encoder"]


def folder_of(name: str, indexes_dir: str | Path) -> Path:
    """Where an index lies.

    Raises:
        UsageError: the name cannot be that of a folder.
    """
    return Path(indexes_dir) / safe_name(name, kind="name for an index")


def open_ledger(name: str, indexes_dir: str | Path, *, read_only: bool = True) -> Ledger:
    """The ledger of an index that is there.

    Raises:
        UsageError: it is not; the nearest name is suggested.
    """
    return Ledger.open(folder_of(name, indexes_dir), read_only=read_only)


def read_config(ledger: Ledger) -> IndexConfig:
    """The config of an index's last sync, with the encoder of the generation that answers now.

    Raises:
        DataError: it is gone, or an older or newer genai wrote what cannot be read here.
    """
    path = ledger.folder / CONFIG
    if not path.is_file():
        fix = "build it once more: genai index CONFIG.yaml"
        raise DataError(f"the first sync of index '{ledger.name}' did not get to its end", where=str(path), fix=fix)
    config = load(path, IndexConfig).config
    live = ledger.live()
    embedding = live.embedding_config if live else config.embedding
    return replace(config, name=ledger.name, indexes_dir=str(ledger.folder.parent), embedding=embedding)


def write_config(ledger: Ledger, loaded: Loaded[IndexConfig]) -> None:
    """Note the job file of a sync, unresolved, unless the same is there already."""
    path = ledger.folder / CONFIG
    text = loaded.dump()
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def write_embedding(ledger: Ledger) -> None:
    """Put the encoder of the generation that answers now into the noted job file."""
    path, live = ledger.folder / CONFIG, ledger.live()
    if path.is_file() and live is not None:
        write_text(path, dump({**load(path, IndexConfig).unresolved, "embedding": dict(live.embedding)}))


def encoder_opener(config: IndexConfig, *, allow_code: bool) -> EncoderOf:
    """What opens encoders for an index: no weights are loaded before the first text.

    Args:
        config: of the index.
        allow_code: whether the command line lets a model bring its own Python.
    """

    def open_one(embedding: EmbeddingConfig) -> Encoder:
        from genai.embedding.opening import open_encoder

        if embedding.trust_remote_code and not allow_code:
            raise UsageError(
                "this runs Python that comes with the model",
                where="embedding.trust_remote_code",
                fix="read that code, then add --allow-code to the command line",
            )
        return open_encoder(embedding, runs_dir=config.runs_dir, num_threads=config.num_threads)

    return open_one


def open_index_engine(config: IndexConfig, ledger: Ledger) -> Engine:
    """The engine that a config names."""
    from genai.index.engines import open_engine

    return open_engine(config.engine, ledger.engine_folder, index=ledger.name)


def open_index_reranker(config: IndexConfig) -> Reranker | None:
    """The reranker that a config names, but for mmr, which search does by itself."""
    reranker = config.search.reranker
    if reranker is None or reranker.name == "mmr":
        return None
    from genai.embedding.opening import open_reranker

    return open_reranker(reranker, runs_dir=config.runs_dir, num_threads=config.num_threads)


def open_index(
    name: str,
    indexes_dir: str | Path,
    *,
    allow_code: bool = False,
    rerank: bool | None = None,
    generation: str | None = None,
) -> Index:
    """An index to ask, by its name.

    Args:
        name: of the index.
        indexes_dir: where indexes lie.
        allow_code: whether a model may bring its own Python.
        rerank: False leaves the reranker closed.
        generation: to ask one that is not live.

    Raises:
        UsageError: there is no such index.
        DataError: it was never built to its end.
    """
    from genai.index.search import Index

    ledger = open_ledger(name, indexes_dir)
    try:
        config = read_config(ledger)
        return Index(
            ledger,
            config,
            encoder_of=encoder_opener(config, allow_code=allow_code),
            engine=open_index_engine(config, ledger),
            reranker=None if rerank is False else open_index_reranker(config),
            generation=generation,
        )
    except BaseException:
        ledger.close()
        raise
