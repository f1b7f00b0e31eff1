"""Measures of an index against an independent computation from the vectors and words themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from toy_index import ToyIndex, document, make_config

from genai.config.embedding import RerankerConfig
from genai.config.index import ChunkingConfig, IndexSourceConfig
from genai.errors import UsageError
from genai.index.evaluation import evaluate
from genai.index.labelled_queries import LabelledQuery

WORDS = [f"w{number}" for number in range(50)]


def make_texts(num: int) -> list[list[str]]:
    generator = np.random.default_rng(0)
    return [list(generator.choice(WORDS, size=8)) for _ in range(num)]


TEXTS = make_texts(60)
# A question has three words of its document and one of another: neither words nor vectors find all
QUERIES = [
    LabelledQuery(text=" ".join([*TEXTS[place][:3], TEXTS[(place * 7 + 1) % 60][0]]), relevant={f"d{place}": 1.0})
    for place in range(60)
]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToyIndex]:
    index = ToyIndex(make_config(tmp_path_factory.mktemp("indexes")))
    index.put(*(document(f"d{place}", " ".join(words), year=place % 2) for place, words in enumerate(TEXTS)))
    yield index
    index.close()


def test_dense_measures_are_those_of_brute_force(toy: ToyIndex) -> None:
    documents = toy.encoder.embed_documents([" ".join(words) for words in TEXTS])
    queries = toy.encoder.embed_queries([query.text for query in QUERIES])
    cosines = queries @ documents.T
    ranks = (cosines > np.diag(cosines)[:, None]).sum(axis=1)  # 0 is the best
    with toy.open() as index:
        [found] = evaluate(index, QUERIES, modes=["dense"])
    assert found.num_queries == 60
    assert found.means["ndcg@10"] == pytest.approx(np.where(ranks < 10, 1 / np.log2(ranks + 2), 0).mean(), abs=1e-6)
    assert found.means["recall@1"] == pytest.approx((ranks == 0).mean())
    assert found.means["recall@10"] == pytest.approx((ranks < 10).mean())
    assert found.means["mrr@10"] == pytest.approx(np.where(ranks < 10, 1 / (ranks + 1), 0).mean())
    interval = found.intervals["ndcg@10"]
    assert interval.low < found.means["ndcg@10"] < interval.high


def test_bm25_measures_are_those_of_a_plain_implementation(toy: ToyIndex) -> None:
    average = sum(map(len, TEXTS)) / len(TEXTS)
    expected = []
    for place, query in enumerate(QUERIES):
        scores = []
        for words in TEXTS:
            score = 0.0
            for word in query.text.split():
                num_with = sum(word in other for other in TEXTS)
                idf = math.log(1 + (len(TEXTS) - num_with + 0.5) / (num_with + 0.5))
                count = words.count(word)
                score += idf * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(words) / average))
            scores.append(score)
        rank = sum(score > scores[place] + 1e-9 for score in scores)
        ties = sum(abs(score - scores[place]) < 1e-9 for score in scores)
        expected.append((1 / math.log2(rank + 2) if rank < 10 else 0.0) if ties == 1 else None)
    with toy.open() as index:
        [found] = evaluate(index, QUERIES, modes=["bm25"], metrics=["ndcg@10"])
    clear = [place for place, value in enumerate(expected) if value is not None]
    assert len(clear) > 30
    assert found.values["ndcg@10"][clear] == pytest.approx([expected[place] for place in clear])


def test_queries_are_embedded_once_for_all_modes(toy: ToyIndex) -> None:
    before = toy.encoder.num_queries
    with toy.open() as index:
        modes = [found.mode for found in evaluate(index, QUERIES)]
    assert modes == ["dense", "bm25", "hybrid"]
    assert toy.encoder.num_queries - before == len(QUERIES)


def test_filters_and_tenants_of_queries_hold(tmp_path: Path, toy: ToyIndex) -> None:
    with toy.open() as index:
        query = LabelledQuery(text=QUERIES[3].text, relevant={"d3": 1.0}, filter="year=0")
        [found] = evaluate(index, [query, *QUERIES[:1]], modes=["dense"], metrics=["recall@100"])
        assert found.values["recall@100"].tolist() == [0, 1]  # d3 is of year 1
        with pytest.raises(UsageError, match="has no tenants"):
            evaluate(index, [LabelledQuery(text="a", relevant={"d3": 1.0}, tenant="acme")])
    other = ToyIndex(make_config(tmp_path, source=IndexSourceConfig(direct=True, tenant="owner")))
    other.put(document("a", "the roof", tenant="acme"), document("b", "the roof", tenant="bolt"))
    with other.open() as index:
        labelled = [LabelledQuery(text="roof", relevant={"a": 1.0}, tenant=tenant) for tenant in ("acme", "bolt")]
        [found] = evaluate(index, labelled, modes=["hybrid"], metrics=["recall@1"])
        assert found.values["recall@1"].tolist() == [1, 0]
    other.close()


def test_of_a_document_with_several_chunks_the_best_counts(tmp_path: Path) -> None:
    toy = ToyIndex(make_config(tmp_path, chunking=ChunkingConfig(name="tokens", max_tokens=2)))
    toy.put(document("long", "roof one roof two roof three roof four"), document("other", "roof garden"))
    with toy.open() as index:
        [found] = evaluate(
            index, [LabelledQuery(text="roof", relevant={"other": 1.0})], modes=["bm25"], metrics=["recall@2"]
        )
        assert found.values["recall@2"].tolist() == [1]
        [chunk] = toy.ledger.chunks_of("other")
        [found] = evaluate(
            index, [LabelledQuery(text="roof", relevant={chunk.id: 1.0})], modes=["bm25"], metrics=["recall@100"]
        )
        assert found.values["recall@100"].tolist() == [1]
    toy.close()


def test_unknown_measures_are_refused_before_anything_is_asked(toy: ToyIndex) -> None:
    before = toy.encoder.num_queries
    with toy.open() as index, pytest.raises(UsageError, match="no measure"):
        evaluate(index, QUERIES, metrics=["ndcg"])
    assert toy.encoder.num_queries == before


class ByLength:
    """Likes long texts; notes how many it was given."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        self.asked.append(len(texts))
        return [float(len(text)) for text in texts]


def test_a_reranker_is_measured_on_the_candidates_that_it_would_see(toy: ToyIndex) -> None:
    model = ByLength()
    with toy.open(model=model, reranker=RerankerConfig(model="m", candidates=7)) as index:
        [plain] = evaluate(index, QUERIES[:5], modes=["dense"])
        assert (plain.reranked, model.asked) == (False, [])
        [reranked] = evaluate(index, QUERIES[:5], modes=["dense"], rerank=True)
    assert reranked.reranked
    assert model.asked == [7] * 5
    assert reranked.means["ndcg@10"] < plain.means["ndcg@10"]
