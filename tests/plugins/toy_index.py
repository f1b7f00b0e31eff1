"""A small index of a few texts: real ledger, real engine, and an encoder that needs no model."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from genai.config.embedding import EmbeddingConfig
from genai.config.index import ChunkingConfig, EngineConfig, ExactConfig, IndexConfig, IndexSourceConfig
from genai.index.engines import open_engine
from genai.index.interfaces import Document, Engine, Vectors
from genai.index.ledger import Ledger
from genai.index.search import Index
from genai.index.sync import delete, upsert

DIMENSION = 32


class WordEncoder:
    """The vector of a text is the sum of those of its words, which are drawn by the word and the model's name.

    Args:
        config: `model` names the encoder; "noisy-0.5" adds half as much noise to what it gives for documents.
    """

    def __init__(self, config: EmbeddingConfig) -> None:
        self.config = config
        self.dimension = config.dimension or DIMENSION
        self.max_tokens = config.max_tokens or 256
        self.num_documents = 0
        self.num_queries = 0

    @property
    def fingerprint(self) -> str:
        return f"{self.config.model}-{self.dimension}"

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        self.num_documents += len(texts)
        noise = float(self.config.model.partition("noisy-")[2] or 0)
        random = [np.random.default_rng(zlib.crc32(text.encode())).normal(size=self.dimension) for text in texts]
        drawn = np.array(random, dtype=np.float32).reshape(len(texts), self.dimension) / np.sqrt(self.dimension)
        vectors: Vectors = self._vectors(texts) + np.float32(noise) * drawn.astype(np.float32)
        return vectors

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        self.num_queries += len(texts)
        return self._vectors(texts)

    def token_offsets(self, text: str) -> list[tuple[int, int]]:
        offsets, start = [], 0
        for word in text.split():
            start = text.index(word, start)
            offsets.append((start, start + len(word)))
            start += len(word)
        return offsets

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        words = [text.lower().split() or [""] for text in texts]
        rows = [np.sum([self._word(word) for word in some], axis=0) for some in words]
        vectors = np.array(rows, dtype=np.float32).reshape(len(texts), self.dimension)
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def _word(self, word: str) -> Vectors:
        generator = np.random.default_rng(zlib.crc32(f"{self.config.model} {word}".encode()))
        drawn: Vectors = generator.normal(size=self.dimension).astype(np.float32)
        return drawn


def make_config(folder: Path, *, engine: EngineConfig | None = None, **values: Any) -> IndexConfig:
    """The config of a direct index `toy` below `folder`."""
    return IndexConfig(
        name="toy",
        indexes_dir=str(folder),
        source=values.pop("source", IndexSourceConfig(direct=True, metadata={"topic": "keyword", "year": "integer"})),
        chunking=values.pop("chunking", ChunkingConfig(name="none")),
        embedding=values.pop("embedding", EmbeddingConfig(model="words")),
        engine=engine or ExactConfig(),
        **values,
    )


def document(key: str, text: str, *, tenant: str | None = None, **metadata: Any) -> Document:
    """One document."""
    return Document(key=key, text=text, metadata=metadata, tenant=tenant, source=f"toy/{key}")


class ToyIndex:
    """An index with everything that it takes to change and to ask it.

    Args:
        config: from `make_config`.
    """

    def __init__(self, config: IndexConfig) -> None:
        self.config = config
        self.folder = Path(config.indexes_dir) / config.name
        self.encoders: dict[str, WordEncoder] = {}
        self.ledger = Ledger.open(self.folder, create=True)

    @property
    def encoder(self) -> WordEncoder:
        """Of the config."""
        return self.encoder_of(self.config.embedding)

    def encoder_of(self, config: EmbeddingConfig) -> WordEncoder:
        """One for each model."""
        return self.encoders.setdefault(config.model, WordEncoder(config))

    def engine(self) -> Engine:
        """One more."""
        return open_engine(self.config.engine, self.ledger.engine_folder, index=self.config.name)

    def put(self, *documents: Document) -> None:
        """Upsert."""
        self._parts(upsert, documents)

    def remove(self, *keys: str) -> None:
        """Delete."""
        self._parts(delete, keys)

    def open(self, **values: Any) -> Index:
        """To ask it; settings of the section search may be given by name, and `model` is the reranker's."""
        generation, reranker = values.pop("generation", None), values.pop("model", None)
        encoder_of = values.pop("encoder_of", self.encoder_of)
        config = replace(self.config, search=replace(self.config.search, **values))
        return Index.open(
            self.folder,
            config,
            encoder_of=encoder_of,
            engine=self.engine(),
            reranker=reranker,
            generation=generation,
        )

    def close(self) -> None:
        """Let go of the ledger."""
        self.ledger.close()

    def _parts(self, change: Callable[..., Any], what: Iterable[Any]) -> None:
        change(self.ledger, list(what), self.encoder, self.engine(), self.config, encoder_of=self.encoder_of)
