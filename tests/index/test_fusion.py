"""Against the formulas of Cormack et al. and of Carbonell and Goldstein, written down plainly."""

from __future__ import annotations

import random

import numpy as np
import pytest

from genai.index.fusion import maximal_marginal_relevance, reciprocal_rank_fusion


def test_ranks_are_fused_by_hand() -> None:
    fused = reciprocal_rank_fusion([["a", "b"], ["b", "c"]], [0.75, 0.25], rrf_k=60)
    assert [name for name, _ in fused] == ["b", "a", "c"]
    assert dict(fused) == pytest.approx({"a": 0.75 / 61, "b": 0.75 / 62 + 0.25 / 61, "c": 0.25 / 62})


def test_random_rankings_are_fused_as_the_definition_says() -> None:
    generator = random.Random(0)
    names = [f"d{number}" for number in range(40)]
    for _ in range(50):
        rankings = [generator.sample(names, generator.randint(0, 40)) for _ in range(3)]
        weights = [generator.random() for _ in range(3)]
        fused = reciprocal_rank_fusion(rankings, weights, rrf_k=10)
        expected = {
            name: sum(
                weight / (10 + ranking.index(name) + 1)
                for ranking, weight in zip(rankings, weights, strict=True)
                if name in ranking
            )
            for name in {name for ranking in rankings for name in ranking}
        }
        assert dict(fused) == pytest.approx(expected)
        scores = [score for _, score in fused]
        assert scores == sorted(scores, reverse=True)


def test_ties_are_broken_by_id_and_no_weight_leaves_a_ranking_out() -> None:
    assert [name for name, _ in reciprocal_rank_fusion([["b"], ["a"]], [0.5, 0.5])] == ["a", "b"]
    assert reciprocal_rank_fusion([["b"], ["a"]], [1.0, 0.0]) == [("b", 1 / 61)]
    assert reciprocal_rank_fusion([], []) == []


def test_mmr_is_that_of_its_definition() -> None:
    generator = np.random.default_rng(0)
    for diversity in (0.0, 0.3, 0.7, 1.0):
        vectors = generator.normal(size=(25, 8)).astype(np.float32)
        query = generator.normal(size=8).astype(np.float32)
        chosen = maximal_marginal_relevance(query, vectors, k=10, diversity=diversity)
        assert [place for place, _ in chosen] == plain_mmr(query, vectors, 10, diversity)


def plain_mmr(query: np.ndarray, vectors: np.ndarray, k: int, diversity: float) -> list[int]:
    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(
            a.astype(float) @ b.astype(float) / np.linalg.norm(a.astype(float)) / np.linalg.norm(b.astype(float))
        )

    chosen: list[int] = []
    while len(chosen) < k:
        values = {
            place: (1 - diversity) * cosine(query, vectors[place])
            - diversity * max((cosine(vectors[place], vectors[other]) for other in chosen), default=0.0)
            for place in range(len(vectors))
            if place not in chosen
        }
        chosen.append(max(values, key=lambda place: values[place]))
    return chosen


def test_mmr_passes_over_copies() -> None:
    vectors = np.array([[1, 0], [1, 0], [1, 0.001], [0.6, 0.8]], dtype=np.float32)
    query = np.array([1, 0.1], dtype=np.float32)
    assert [place for place, _ in maximal_marginal_relevance(query, vectors, k=2, diversity=0.5)][1] == 3
    nearest = [place for place, _ in maximal_marginal_relevance(query, vectors, k=3, diversity=0.0)]
    assert sorted(nearest) == [0, 1, 2]


def test_mmr_of_little() -> None:
    nothing = np.zeros((0, 3), dtype=np.float32)
    query = np.ones(3, dtype=np.float32)
    assert maximal_marginal_relevance(query, nothing, k=5, diversity=0.3) == []
    zeros = np.zeros((2, 3), dtype=np.float32)
    assert [place for place, _ in maximal_marginal_relevance(query, zeros, k=5, diversity=0.3)] == [0, 1]
