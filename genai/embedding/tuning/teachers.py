"""Models that are not trained but asked: teachers score queries and passages, a guide tells false negatives.

Queries are named by the number of their pair and passages by their place in the corpus, as batches name them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray

from genai.config.embed_finetune import DistillationConfig, MarginMSEConfig, MultipleNegativesConfig
from genai.config.embedding import EmbeddingConfig
from genai.embedding.cross_encoder import CrossEncoder
from genai.embedding.opening import find_folder, open_encoder
from genai.embedding.tuning.interfaces import TextEmbedder, Vectors
from genai.embedding.tuning.score_cache import ScoreCache, key_of
from genai.models.fingerprint import fingerprint
from genai.storage.atomic import safe_name

Numbers = NDArray[np.int64]
"""Of pairs or passages."""


class Teacher(Protocol):
    """Says how well passages answer queries."""

    def labels(self, pairs: Numbers, passages: Numbers) -> NDArray[np.float32]:
        """Scores, higher is better.

        Args:
            pairs: whose query, (rows,).
            passages: which passages, (rows, 1 + K).

        Returns:
            (rows, 1 + K)
        """


class LogitScorer(Protocol):
    """Scores queries and texts; met by `genai.embedding.cross_encoder.CrossEncoder`."""

    def logits(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        """(n,)"""


def open_teacher(
    config: MarginMSEConfig | DistillationConfig,
    *,
    queries: Sequence[str],
    passages: Sequence[str],
    runs_dir: str | Path = "runs",
    cache: Path | None = None,
    num_threads: int | None = None,
) -> Teacher | None:
    """The teacher that a loss names; None where the labels come with the data.

    Args:
        config: the section `loss`.
        queries: of each pair.
        passages: the corpus.
        runs_dir: where run directories lie, for `runs:RUN`.
        cache: folder where a cross-encoder's scores are kept; None: in memory only.
        num_threads: threads of the model; None takes what the library takes.

    Raises:
        UsageError, CredentialsError, DataError, GenaiError: see `genai.embedding.opening.open_encoder`.
    """
    if config.teacher is None:
        return None
    if config.teacher_kind == "sentence_encoder":
        encoder = open_encoder(EmbeddingConfig(model=config.teacher), runs_dir=runs_dir, num_threads=num_threads)
        return EncoderTeacher(FrozenVectors(cast(TextEmbedder, encoder), queries, passages))
    folder = find_folder(config.teacher, None, runs_dir)
    kept = None
    if cache is not None:
        digest = fingerprint(folder).removeprefix("sha256:")
        kept = ScoreCache(cache / safe_name(f"{digest[:32]}.sqlite"))
    return CrossEncoderTeacher(CrossEncoder(folder, num_threads=num_threads), queries, passages, cache=kept)


def open_guide(
    config: MultipleNegativesConfig,
    *,
    queries: Sequence[str],
    passages: Sequence[str],
    runs_dir: str | Path = "runs",
    num_threads: int | None = None,
) -> EncoderGuide | None:
    """The guide that the loss names; None where it names none.

    Args, Raises: see `open_teacher`.
    """
    if config.guide is None:
        return None
    encoder = open_encoder(EmbeddingConfig(model=config.guide), runs_dir=runs_dir, num_threads=num_threads)
    return EncoderGuide(FrozenVectors(cast(TextEmbedder, encoder), queries, passages))


class CrossEncoderTeacher:
    """A cross-encoder's logits; each query and passage is scored once.

    Args:
        scorer: the cross-encoder.
        queries: of each pair.
        passages: the corpus.
        cache: keeps the scores beyond this process.
    """

    def __init__(
        self,
        scorer: LogitScorer,
        queries: Sequence[str],
        passages: Sequence[str],
        *,
        cache: ScoreCache | None = None,
    ) -> None:
        self._scorer = scorer
        self._queries = queries
        self._passages = passages
        self._cache = cache
        self._known: dict[tuple[int, int], float] = {}

    def labels(self, pairs: Numbers, passages: Numbers) -> NDArray[np.float32]:
        """See `Teacher`.

        Raises:
            DataError: the weights cannot be read or give infinite numbers, or the kept scores are damaged.
        """
        asked = [(pair, each) for pair, row in zip(pairs.tolist(), passages.tolist(), strict=True) for each in row]
        new = [place for place in dict.fromkeys(asked) if place not in self._known]
        if new:
            self._learn(new)
        scores = np.array([self._known[place] for place in asked], dtype=np.float32)
        return scores.reshape(passages.shape)

    def _learn(self, places: Sequence[tuple[int, int]]) -> None:
        texts = [(self._queries[pair], self._passages[passage]) for pair, passage in places]
        if self._cache is None:
            self._known.update(zip(places, self._scorer.logits(texts).tolist(), strict=True))
            return
        keys = [key_of(*each) for each in texts]
        kept = self._cache.read(keys)
        missing = {key: each for key, each in zip(keys, texts, strict=True) if key not in kept}
        if missing:
            scored = dict(zip(missing, self._scorer.logits(list(missing.values())).tolist(), strict=True))
            self._cache.write(scored)
            kept |= scored
        self._known.update((place, kept[key]) for place, key in zip(places, keys, strict=True))


class FrozenVectors:
    """Vectors of an encoder that does not change, each made when it is first asked for.

    Args:
        embedder: the encoder.
        queries: of each pair.
        passages: the corpus.
    """

    def __init__(self, embedder: TextEmbedder, queries: Sequence[str], passages: Sequence[str]) -> None:
        self._embedder = embedder
        self._texts = {"query": queries, "document": passages}
        self._kept: dict[str, dict[str, Vectors]] = {"query": {}, "document": {}}

    def queries(self, pairs: Numbers) -> Vectors:
        """(n, D)"""
        return self._vectors("query", pairs)

    def passages(self, passages: Numbers) -> Vectors:
        """(n, D)"""
        return self._vectors("document", passages)

    def _vectors(self, kind: str, numbers: Numbers) -> Vectors:
        texts, kept = [self._texts[kind][number] for number in numbers.tolist()], self._kept[kind]
        new = [text for text in dict.fromkeys(texts) if text not in kept]
        if new:
            embed = self._embedder.embed_queries if kind == "query" else self._embedder.embed_documents
            kept.update(zip(new, np.asarray(embed(new), dtype=np.float32), strict=True))
        return np.stack([kept[text] for text in texts])


class EncoderTeacher:
    """Cosines of an encoder.

    Args:
        vectors: of length 1.
    """

    def __init__(self, vectors: FrozenVectors) -> None:
        self._vectors = vectors

    def labels(self, pairs: Numbers, passages: Numbers) -> NDArray[np.float32]:
        """See `Teacher`.

        Raises:
            DataError: the weights cannot be read, or give infinite numbers.
        """
        if not len(pairs):
            return np.zeros(passages.shape, dtype=np.float32)
        documents = self._vectors.passages(passages.flatten())
        documents = documents.reshape(*passages.shape, documents.shape[-1])
        return np.asarray(np.einsum("rd,rkd->rk", self._vectors.queries(pairs), documents), dtype=np.float32)


class EncoderGuide:
    """Cosines of an encoder, for `genai.embedding.tuning.objectives.guide`.

    Args:
        vectors: of length 1.
    """

    def __init__(self, vectors: FrozenVectors) -> None:
        self._vectors = vectors

    def similarity(self, pairs: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
        """See `Guide`; every text is embedded once, whatever the ranks and epochs that ask for it.

        Raises:
            DataError: the weights cannot be read, or give infinite numbers.
        """
        queries, documents = self._vectors.queries(pairs.cpu().numpy()), self._vectors.passages(passages.cpu().numpy())
        return torch.from_numpy(queries @ documents.T).to(pairs.device)
