"""What the tuning tells is what the index does."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from toy_index import ToyIndex, document, make_config

from genai.errors import DataError, UsageError
from genai.index.evaluation import evaluate
from genai.index.labelled_queries import LabelledQuery
from genai.index.tuning import RRF_KS, WEIGHTS, tune_fusion

WORDS = [f"w{number}" for number in range(50)]
TEXTS = [list(np.random.default_rng(place).choice(WORDS, size=8)) for place in range(60)]
# A question has three words of its document and one of another: neither words nor vectors find all
QUERIES = [
    LabelledQuery(text=" ".join([*TEXTS[place][:3], TEXTS[(place * 7 + 1) % 60][0]]), relevant={f"d{place}": 1.0})
    for place in range(60)
]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToyIndex]:
    index = ToyIndex(make_config(tmp_path_factory.mktemp("indexes")))
    index.put(*(document(f"d{place}", " ".join(words)) for place, words in enumerate(TEXTS)))
    yield index
    index.close()


def test_a_way_to_fuse_is_chosen_on_one_half_and_told_on_the_other(toy: ToyIndex) -> None:
    weights, rrf_ks = (0.0, 0.25, 0.5, 0.75, 1.0), (2, 60)
    with toy.open() as index:
        tuning = tune_fusion(index, QUERIES, weights=weights, rrf_ks=rrf_ks)
        assert tuning == tune_fusion(index, QUERIES, weights=weights, rrf_ks=rrf_ks)
    assert (tuning.num_train, tuning.num_test) == (30, 30)
    assert len(tuning.tried) == 10
    assert tuning.best.train == max(one.train for one in tuning.tried)
    for one in tuning.tried:  # what is told is what the index does with it
        assert (one.train + one.test) / 2 == pytest.approx(_ndcg(toy, one.dense_weight, one.rrf_k))


def _ndcg(toy: ToyIndex, dense_weight: float, rrf_k: int) -> float:
    with toy.open(dense_weight=dense_weight, rrf_k=rrf_k) as index:
        [found] = evaluate(index, QUERIES, modes=["hybrid"], metrics=["ndcg@10"])
    return found.means["ndcg@10"]


def test_too_few_queries_are_no_ground_for_a_choice(toy: ToyIndex) -> None:
    with toy.open() as index, pytest.raises(DataError, match="19 queries are too few"):
        tune_fusion(index, QUERIES[:19])


def test_all_ways_are_tried_unless_told_otherwise(toy: ToyIndex) -> None:
    with toy.open() as index:
        tuning = tune_fusion(index, QUERIES[:20], metric="recall@10")
        assert tuning.metric == "recall@10"
        assert len(tuning.tried) == len(WEIGHTS) * len(RRF_KS)
        with pytest.raises(UsageError, match="no measure"):
            tune_fusion(index, QUERIES, metric="ndcg")
