from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genai.config.embed_finetune import DistillationConfig, MarginMSEConfig, MultipleNegativesConfig
from genai.config.embedding import EmbeddingConfig
from genai.embedding.opening import open_encoder
from genai.embedding.tuning.score_cache import ScoreCache
from genai.embedding.tuning.teachers import (
    CrossEncoderTeacher,
    EncoderGuide,
    EncoderTeacher,
    FrozenVectors,
    open_guide,
    open_teacher,
)
from genai.errors import GenaiError

QUERIES = ["who signs", "how thick", "who signs"]
PASSAGES = ["the protocol", "60 millimetres", "a helmet", "the site office"]
PAIRS = np.array([0, 2, 1])
ROWS = np.array([[0, 2], [0, 3], [1, 1]])


class Lengths:
    """Scores by the lengths of both texts, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[tuple[str, str]]] = []

    def logits(self, pairs: Sequence[tuple[str, str]]) -> Any:
        self.asked.append(list(pairs))
        return np.array([len(query) + len(text) / 100 for query, text in pairs])


def expected_lengths() -> Any:
    return [
        [len(QUERIES[pair]) + len(PASSAGES[each]) / 100 for each in row] for pair, row in zip(PAIRS, ROWS, strict=True)
    ]


def test_a_cross_encoder_is_asked_once_for_each_place() -> None:
    scorer = Lengths()
    teacher = CrossEncoderTeacher(scorer, QUERIES, PASSAGES)
    labels = teacher.labels(PAIRS, ROWS)
    assert labels.dtype == np.float32
    np.testing.assert_allclose(labels, expected_lengths(), rtol=1e-6)
    assert [len(asked) for asked in scorer.asked] == [5]
    np.testing.assert_array_equal(teacher.labels(PAIRS, ROWS), labels)
    teacher.labels(np.array([1]), np.array([[1, 2]]))
    assert scorer.asked[1:] == [[("how thick", "a helmet")]]
    assert teacher.labels(np.zeros(0, dtype=np.int64), np.zeros((0, 2), dtype=np.int64)).shape == (0, 2)


def test_kept_scores_are_found_by_the_texts(tmp_path: Path) -> None:
    scorer = Lengths()
    first = CrossEncoderTeacher(scorer, QUERIES, PASSAGES, cache=ScoreCache(tmp_path / "s"))
    first.labels(PAIRS, ROWS)
    # two pairs have one query, so that passage 0 is scored for it once
    assert [len(asked) for asked in scorer.asked] == [4]
    turned = CrossEncoderTeacher(scorer, QUERIES[::-1], PASSAGES[::-1], cache=ScoreCache(tmp_path / "s"))
    np.testing.assert_allclose(turned.labels(2 - PAIRS, 3 - ROWS), expected_lengths(), rtol=1e-6)
    assert len(scorer.asked) == 1


class Embedder:
    """Vectors out of letters; queries and documents get other ones."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str]]] = []

    def _embed(self, kind: str, texts: Sequence[str]) -> Any:
        self.asked.append((kind, list(texts)))
        counts = np.array([[text.count(letter) + (kind == "query") for letter in "aeiost"] for text in texts])
        return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)

    def embed_queries(self, texts: Sequence[str]) -> Any:
        return self._embed("query", texts)

    def embed_documents(self, texts: Sequence[str]) -> Any:
        return self._embed("document", texts)


def test_an_encoder_embeds_each_text_once() -> None:
    embedder = Embedder()
    teacher = EncoderTeacher(FrozenVectors(embedder, QUERIES, PASSAGES))
    labels = teacher.labels(PAIRS, ROWS)
    queries, passages = embedder.embed_queries(QUERIES), embedder.embed_documents(PASSAGES)
    expected = [[queries[pair] @ passages[each] for each in row] for pair, row in zip(PAIRS, ROWS, strict=True)]
    np.testing.assert_allclose(labels, expected, rtol=1e-6)
    assert sorted(embedder.asked[:2]) == [
        ("document", ["the protocol", "a helmet", "the site office", "60 millimetres"]),
        ("query", ["who signs", "how thick"]),
    ]
    teacher.labels(PAIRS, ROWS)
    assert len(embedder.asked) == 4  # two of them are this test's own
    assert teacher.labels(np.zeros(0, dtype=np.int64), np.zeros((0, 2), dtype=np.int64)).shape == (0, 2)


def test_a_guide_compares_all_with_all() -> None:
    embedder = Embedder()
    found = EncoderGuide(FrozenVectors(embedder, QUERIES, PASSAGES)).similarity(
        torch.tensor([1, 0]), torch.tensor([3, 0, 3])
    )
    queries, passages = embedder.embed_queries(QUERIES), embedder.embed_documents(PASSAGES)
    np.testing.assert_allclose(found.numpy(), (queries[[1, 0]] @ passages[[3, 0, 3]].T), rtol=1e-6)
    assert found.dtype == torch.float32


def test_opened_from_the_config(bert: Path, cross_encoder: Path, tmp_path: Path) -> None:
    def opened(config: Any, **more: Any) -> Any:
        return open_teacher(config, queries=QUERIES, passages=PASSAGES, **more)

    encoder: Any = open_encoder(EmbeddingConfig(model=str(bert)))
    queries, passages = encoder.embed_queries(QUERIES), encoder.embed_documents(PASSAGES)
    cosines = queries @ passages.T
    student = opened(DistillationConfig(teacher=str(bert)))
    np.testing.assert_allclose(
        student.labels(PAIRS, ROWS), np.take_along_axis(cosines[PAIRS], ROWS, axis=1), atol=0.02
    )  # bfloat16, where the processor has it
    guide = open_guide(MultipleNegativesConfig(guide=str(bert)), queries=QUERIES, passages=PASSAGES)
    assert guide is not None
    found = guide.similarity(torch.tensor([0, 1]), torch.tensor([0, 1, 2]))
    np.testing.assert_allclose(found.numpy(), cosines[:2, :3], atol=0.02)

    scorer = opened(MarginMSEConfig(teacher=str(cross_encoder)), cache=tmp_path / "scores")
    labels = scorer.labels(PAIRS, ROWS)
    # logits, not the probabilities of `score`
    expected = -np.log(1 / np.array(scorer._scorer.score(QUERIES[0], [PASSAGES[0], PASSAGES[2]])) - 1)
    np.testing.assert_allclose(labels[0], expected, atol=0.05)
    assert len(list((tmp_path / "scores").glob("*.sqlite"))) == 1
    again = opened(MarginMSEConfig(teacher=str(cross_encoder)), cache=tmp_path / "scores")
    again._scorer = None  # nothing is left to be asked
    np.testing.assert_array_equal(again.labels(PAIRS, ROWS), labels)


def test_none_where_the_config_names_none() -> None:
    assert open_teacher(MarginMSEConfig(), queries=QUERIES, passages=PASSAGES) is None
    assert open_guide(MultipleNegativesConfig(), queries=QUERIES, passages=PASSAGES) is None


def test_a_wrong_reference(tmp_path: Path) -> None:
    with pytest.raises(GenaiError, match="nowhere"):
        open_teacher(MarginMSEConfig(teacher=str(tmp_path / "nowhere")), queries=QUERIES, passages=PASSAGES)
