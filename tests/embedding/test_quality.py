"""How well the encoders find: English questions to their answers, 503 of each, against published figures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genai.config.embedding import EmbeddingConfig
from genai.embedding.opening import open_encoder

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def ndcg_at_10(encoder: Any, faq: list[dict[str, str]]) -> float:
    """One answer is right, so that the ideal is 1 and a rank r is worth 1 / log2(r + 1)."""
    questions = encoder.embed_queries([row["q"] for row in faq])
    answers = encoder.embed_documents([row["a"] for row in faq])
    scores = questions @ answers.T
    ranks = 1 + (scores > np.diag(scores)[:, None]).sum(axis=1)
    return float(np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0).mean())


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_minilm(backend: Any, faq: list[dict[str, str]]) -> None:
    encoder = open_encoder(EmbeddingConfig(model="gallery:all-minilm-l6-v2", backend=backend))
    assert ndcg_at_10(encoder, faq) == pytest.approx(0.716, abs=0.01)


def test_wordllama(wordllama: Path, faq: list[dict[str, str]]) -> None:
    assert ndcg_at_10(open_encoder(EmbeddingConfig(model=str(wordllama))), faq) > 0.4
