"""Two generations over the same questions, against a plain bootstrap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toy_index import ToyIndex, document, make_config

from genai.config.embedding import EmbeddingConfig
from genai.index.comparison import METRICS, compare
from genai.index.labelled_queries import LabelledQuery

WORDS = [f"w{number}" for number in range(80)]
TEXTS = [" ".join(np.random.default_rng(place).choice(WORDS, size=8)) for place in range(40)]
QUERIES = [LabelledQuery(text=text[:11], relevant={f"d{place}": 1.0}) for place, text in enumerate(TEXTS)]


def make_toy(folder: Path, model: str) -> ToyIndex:
    toy = ToyIndex(make_config(folder, embedding=EmbeddingConfig(model=model)))
    toy.put(*(document(f"d{place}", text) for place, text in enumerate(TEXTS)))
    return toy


def test_differences_are_those_of_each_query(tmp_path: Path) -> None:
    good, bad = make_toy(tmp_path / "good", "words"), make_toy(tmp_path / "bad", "noisy-1.5")
    with good.open() as before, bad.open() as after:
        comparisons = compare(before, after, QUERIES, mode="dense", tolerance=0.02)
        same = compare(before, before, QUERIES, mode="dense", tolerance=0.0)
        found = [
            [[each.key for each in one] for one in index.search([query.text for query in QUERIES])]
            for index in (before, after)
        ]
    assert [one.metric for one in comparisons] == list(METRICS)
    hits = np.array([[f"d{place}" in keys for place, keys in enumerate(one)] for one in found], dtype=float)
    differences = hits[1] - hits[0]
    generator = np.random.default_rng(1)
    means = [generator.choice(differences, size=len(differences)).mean() for _ in range(4000)]
    recall = comparisons[0]
    assert (recall.before, recall.after) == (hits[0].mean(), hits[1].mean())
    assert recall.difference.mean == pytest.approx(differences.mean())
    assert recall.difference.low == pytest.approx(np.quantile(means, 0.025), abs=0.03)
    assert recall.difference.high == pytest.approx(np.quantile(means, 0.975), abs=0.03)
    assert not recall.passed
    assert all(one.passed and one.difference.low == one.difference.high == 0 for one in same)
    good.close()
    bad.close()
