"""Vectors of many texts by an encoder that does not change, kept on the disk: made once, also for several runs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from genai.log import get_logger, progress
from genai.storage.atomic import atomic_file

Vectors = NDArray[np.float32]
_AT_ONCE = 256
_log = get_logger(__name__)


class FingerprintedEncoder(Protocol):
    """An encoder that says what its vectors depend on; met by `genai.embedding.encoder.TextEncoder`."""

    @property
    def fingerprint(self) -> str:
        """Changes when the vectors would."""

    def embed_documents(self, texts: Sequence[str]) -> Any:
        """(n, dim)"""

    def embed_queries(self, texts: Sequence[str]) -> Any:
        """(n, dim)"""


class KeptVectors:
    """Embeds texts, and keeps what it made.

    Args:
        encoder: whose vectors.
        folder: where they are kept.
    """

    def __init__(self, encoder: FingerprintedEncoder, folder: Path) -> None:
        self._encoder = encoder
        self._folder = folder

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """(n, dim)"""
        return self._kept(texts, "documents")

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """(n, dim)"""
        return self._kept(texts, "queries")

    def _kept(self, texts: Sequence[str], kind: Literal["documents", "queries"]) -> Vectors:
        file = self._folder / f"{self._key(texts, kind)}.npy"
        if file.is_file():
            try:
                found: Vectors = np.load(file, allow_pickle=False)
            except (ValueError, EOFError):
                _log.debug("%s is damaged and is made anew", file)
            else:
                if len(found) == len(texts):
                    return found
        vectors = self._embed(texts, kind)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as stream:
            np.save(stream, vectors, allow_pickle=False)
        return vectors

    def _embed(self, texts: Sequence[str], kind: Literal["documents", "queries"]) -> Vectors:
        embed = self._encoder.embed_documents if kind == "documents" else self._encoder.embed_queries
        # Sorted by length over all texts, so that those of a batch are alike; put back at the end.
        order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
        made: list[Vectors] = []
        with progress(f"embedding {len(texts):,} {kind}", len(texts)) as task:
            for start in range(0, len(texts), _AT_ONCE):
                made.append(np.asarray(embed([texts[place] for place in order[start : start + _AT_ONCE]])))
                task.update(min(len(texts), start + _AT_ONCE))
        sorted_vectors = np.concatenate(made)
        vectors = np.empty_like(sorted_vectors)
        vectors[order] = sorted_vectors
        return vectors

    def _key(self, texts: Sequence[str], kind: str) -> str:
        digest = hashlib.sha256(f"{self._encoder.fingerprint}\0{kind}".encode())
        for text in texts:
            digest.update(len(text).to_bytes(8, "little") + text.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:32]
