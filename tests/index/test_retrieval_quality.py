"""The yardsticks of retrieval: 503 questions on building, each of which one answer of 503 should be found for.

The index's own figures are held against a computation that shares nothing with it but the encoder's vectors.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from toy_index import ToyIndex, make_config

from genai.config.embedding import EmbeddingConfig
from genai.config.index import BM25Config, ChunkingConfig, ExactConfig, IndexConfig, IndexSourceConfig
from genai.data.gallery import pull
from genai.embedding.opening import open_encoder
from genai.index.engines import open_engine
from genai.index.evaluation import Evaluation, evaluate
from genai.index.interfaces import Document
from genai.index.labelled_queries import LabelledQuery
from genai.index.ledger import Ledger
from genai.index.requests import Mode
from genai.index.search import Index
from genai.index.sync import upsert
from genai.index.tuning import tune_fusion

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MODES: tuple[Mode, ...] = ("dense", "bm25", "hybrid")


@dataclass(frozen=True)
class Faq:
    config: IndexConfig
    folder: Path
    rows: list[dict[str, str]]
    queries: list[LabelledQuery]
    question_vectors: NDArray[np.float32]
    answer_vectors: NDArray[np.float32]

    def open(self, **settings: float) -> Index:
        config = replace(self.config, search=replace(self.config.search, **settings))  # type: ignore[arg-type]
        engine = open_engine(config.engine, self.folder / "engine", index=config.name)
        return Index.open(self.folder, config, encoder_of=open_encoder, engine=engine)


@pytest.fixture(scope="module")
def faq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faq]:
    folder = tmp_path_factory.mktemp("indexes") / "faq"
    rows = [json.loads(line) for line in pull("construction-faq-en").read_text(encoding="utf-8").splitlines()]
    config = IndexConfig(
        name="faq",
        source=IndexSourceConfig(direct=True),
        chunking=ChunkingConfig(name="none"),
        embedding=EmbeddingConfig(model="gallery:all-minilm-l6-v2"),
        engine=ExactConfig(),
    )
    encoder = open_encoder(config.embedding)
    with Ledger.open(folder, create=True) as ledger:
        documents = [Document(key=row["id"], text=row["a"]) for row in rows]
        upsert(ledger, documents, encoder, open_engine(config.engine, folder / "engine", index="faq"), config)
    yield Faq(
        config=config,
        folder=folder,
        rows=rows,
        queries=[LabelledQuery(text=row["q"], relevant={row["id"]: 1.0}) for row in rows],
        question_vectors=encoder.embed_queries([row["q"] for row in rows]),
        answer_vectors=encoder.embed_documents([row["a"] for row in rows]),
    )


@pytest.fixture(scope="module")
def evaluations(faq: Faq) -> dict[str, Evaluation]:
    with faq.open() as index:
        found = {one.mode: one for one in evaluate(index, faq.queries, modes=MODES)}
    for mode, one in found.items():
        print(mode, {name: round(mean, 4) for name, mean in one.means.items()})
    return found  # type: ignore[return-value]


def scores_by_words(faq: Faq) -> NDArray[np.float64]:
    """(questions, answers): BM25 with k1 1.2 and b 0.75 over words in small letters."""
    answers = [re.findall(r"[^\W_]+", row["a"].lower()) for row in faq.rows]
    counts = [Counter(words) for words in answers]
    average = sum(map(len, answers)) / len(answers)
    num_with = Counter(word for count in counts for word in count)
    scores = np.zeros((len(faq.rows), len(answers)))
    for question, row in enumerate(faq.rows):
        for word in re.findall(r"[^\W_]+", row["q"].lower()):
            idf = math.log(1 + (len(answers) - num_with[word] + 0.5) / (num_with[word] + 0.5))
            for answer, count in enumerate(counts):
                if tf := count[word]:
                    scores[question, answer] += (
                        idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * len(answers[answer]) / average))
                    )
    return scores


def ndcg(ranks: NDArray[np.int64]) -> float:
    """Of the rank, from 0, of the only right answer to each question."""
    return float(np.where(ranks < 10, 1 / np.log2(ranks + 2), 0.0).mean())


def ranks_of(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """Of the right answer, which has the number of its question."""
    ranks: NDArray[np.int64] = (scores > np.diag(scores)[:, None]).sum(axis=1)
    return ranks


def test_dense_reaches_its_yardstick(faq: Faq, evaluations: dict[str, Evaluation]) -> None:
    means = evaluations["dense"].means
    ranks = ranks_of(faq.question_vectors @ faq.answer_vectors.T)
    assert means["ndcg@10"] == pytest.approx(ndcg(ranks), abs=0.003)
    assert means["recall@100"] == pytest.approx((ranks < 100).mean(), abs=0.003)
    assert means["ndcg@10"] >= 0.71
    assert means["recall@1"] >= 0.55


def test_bm25_reaches_its_yardstick(faq: Faq, evaluations: dict[str, Evaluation]) -> None:
    means = evaluations["bm25"].means
    ranks = ranks_of(scores_by_words(faq))
    assert means["ndcg@10"] == pytest.approx(ndcg(ranks), abs=0.003)
    assert means["ndcg@10"] >= 0.482
    assert means["recall@100"] >= 0.869


def test_tuned_on_one_half_hybrid_is_no_worse_on_the_other(faq: Faq, evaluations: dict[str, Evaluation]) -> None:
    with faq.open() as index:
        tuning = tune_fusion(index, faq.queries)
    best = tuning.best
    print(best)
    assert best.test >= next(one.test for one in tuning.tried if one.dense_weight == 1.0) - 0.01
    with faq.open(dense_weight=best.dense_weight, rrf_k=best.rrf_k) as index:
        [found] = evaluate(index, faq.queries, modes=["hybrid"])
    print("hybrid", {name: round(mean, 4) for name, mean in found.means.items()})
    assert found.means["ndcg@10"] >= evaluations["dense"].means["ndcg@10"] - 0.01
    assert found.means["recall@100"] >= evaluations["dense"].means["recall@100"] - 0.01


def test_hybrid_is_the_fusion_of_both_rankings(faq: Faq) -> None:
    fused = np.zeros((len(faq.rows), len(faq.rows)))
    for weight, scores in ((0.83, faq.question_vectors @ faq.answer_vectors.T), (0.17, scores_by_words(faq))):
        order = np.argsort(-scores, axis=1, kind="stable")[:, :100]
        for question, row in enumerate(order):
            for rank, answer in enumerate(row, 1):
                if weight == 0.83 or scores[question, answer] > 0:
                    fused[question, answer] += weight / (5 + rank)
    with faq.open(dense_weight=0.83, rrf_k=5) as index:
        [found] = evaluate(index, faq.queries, modes=["hybrid"], metrics=["ndcg@10"])
    assert found.means["ndcg@10"] == pytest.approx(ndcg(ranks_of(fused)), abs=0.004)


def test_a_stemmer_helps_words(faq: Faq, evaluations: dict[str, Evaluation], tmp_path: Path) -> None:
    toy = ToyIndex(make_config(tmp_path, source=IndexSourceConfig(direct=True), bm25=BM25Config(language="english")))
    toy.put(*(Document(key=row["id"], text=row["a"]) for row in faq.rows))
    with toy.open() as index:
        [found] = evaluate(index, faq.queries, modes=["bm25"])
    print("stemmed", {name: round(mean, 4) for name, mean in found.means.items()})
    assert found.means["ndcg@10"] > evaluations["bm25"].means["ndcg@10"] + 0.03
    toy.close()
