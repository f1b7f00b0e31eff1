"""`genai eval embeddings`: how like two sets of images or texts are, by embeddings that somebody made of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from genai.errors import UsageError
from genai.evaluation.embedding_scores import FrechetScore, frechet_of_files, inception_of_file


@dataclass(frozen=True, kw_only=True)
class EmbeddingScores:
    """What was asked for of them."""

    frechet: FrechetScore | None
    """Of two files of embeddings."""
    inception: float | None
    """Of a file of class probabilities."""

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return asdict(self)


def score(first: Path | None, second: Path | None, *, probabilities: Path | None) -> EmbeddingScores:
    """The Fréchet distance of two files, the inception-style score of a third, or both.

    Raises:
        UsageError: there is nothing to score.
        DataError: a file cannot be read, or the shapes do not fit.
    """
    if (first is None) != (second is None) or (first is None and probabilities is None):
        fix = "genai eval embeddings REAL.npy MADE.npy, or --probabilities FILE.npy"
        raise UsageError("two files of embeddings are needed, or one of probabilities", fix=fix)
    return EmbeddingScores(
        frechet=frechet_of_files(first, second) if first is not None and second is not None else None,
        inception=None if probabilities is None else inception_of_file(probabilities),
    )
