"""Engines of the index room behind what measuring and mining ask for, against all products by numpy."""

from __future__ import annotations

import gc
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_search import TableEmbedder, plain_neighbours

from genai.embedding.tuning.measuring import from_pairs, measure
from genai.jobs.passage_neighbours import passage_neighbours

TIE = 2e-6
"""Of products that differ by less, the engine may take either first."""


def unit(num: int, width: int, *, seed: int) -> Any:
    vectors = np.random.default_rng(seed).standard_normal((num, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders lie."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@settings(max_examples=12)
@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 80), st.integers(0, 99))
def test_the_nearest_are_those_of_all_products(num_passages: int, num_queries: int, k: int, seed: int) -> None:
    passages, queries = unit(num_passages, 16, seed=seed), unit(num_queries, 16, seed=seed + 1000)
    found, scores = passage_neighbours()(passages).nearest(queries, k)
    expected, products = plain_neighbours(passages).nearest(queries, k)
    assert (found.dtype, scores.dtype) == (np.int64, np.float32)
    assert found.shape == scores.shape == (num_queries, k)
    assert ((found >= 0) == (expected >= 0)).all()
    there = found >= 0
    assert np.allclose(scores[there], products[there], atol=TIE)
    own = np.take_along_axis(queries.astype(np.float64) @ passages.T, np.maximum(found, 0), axis=1)
    assert np.allclose(scores[there], own[there], atol=TIE)
    assert np.isneginf(scores[~there]).all()
    assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in found)


def test_positions_are_those_of_numpy() -> None:
    passages, queries = unit(2000, 32, seed=1), unit(50, 32, seed=2)
    found, _ = passage_neighbours()(passages).nearest(queries, 10)
    assert (found == plain_neighbours(passages).nearest(queries, 10)[0]).mean() > 0.999


def test_of_equal_passages_the_first_comes_first() -> None:
    passages = np.repeat(unit(1, 8, seed=3), 300, axis=0)
    found, _ = passage_neighbours()(passages).nearest(passages[:2], 300)
    assert found.tolist() == [list(range(300))] * 2


def test_many_queries_are_asked_in_portions() -> None:
    passages, queries = unit(30, 8, seed=1), unit(2500, 8, seed=2)
    checked: list[int] = []
    found, _ = passage_neighbours(check=lambda: checked.append(1))(passages).nearest(queries, 3)
    assert (found[:, 0] == (queries @ passages.T).argmax(axis=1)).all()
    assert len(checked) == 1 + 3


def test_it_can_be_ended_between_portions() -> None:
    class Enough(Exception):
        pass

    def stop() -> None:
        raise Enough

    with pytest.raises(Enough):
        passage_neighbours(check=stop)(unit(30, 8, seed=1)).nearest(unit(2, 8, seed=2), 3)


def test_no_passages_and_no_queries() -> None:
    found, scores = passage_neighbours()(unit(0, 8, seed=1)).nearest(unit(2, 8, seed=2), 3)
    assert (found == -1).all()
    assert np.isneginf(scores).all()
    found, scores = passage_neighbours()(unit(5, 8, seed=1)).nearest(unit(0, 8, seed=2), 3)
    assert found.shape == scores.shape == (0, 3)


def test_files_are_made_by_the_first_query_and_go_with_the_object(scratch: Path) -> None:
    neighbours = passage_neighbours()(unit(30, 8, seed=1))
    assert os.listdir(scratch) == []
    neighbours.nearest(unit(2, 8, seed=2), 3)
    neighbours.nearest(unit(2, 8, seed=3), 3)
    assert len(os.listdir(scratch)) == 1
    del neighbours
    gc.collect()
    assert os.listdir(scratch) == []


def test_much_work_is_done_by_a_graph(scratch: Path) -> None:
    passages, queries = unit(400, 16, seed=1), unit(60, 16, seed=2)
    neighbours = passage_neighbours(few_passages=100, exact_products=400 * 50)(passages)
    expected, _ = plain_neighbours(passages).nearest(queries, 10)
    exact, _ = neighbours.nearest(queries[:50], 10)
    assert (exact == expected[:50]).mean() > 0.99
    assert len(os.listdir(scratch)) == len(list(scratch.rglob("dense.npy"))) == 1
    found, scores = neighbours.nearest(queries, 10)
    assert len(os.listdir(scratch)) == 2
    assert len(list(scratch.rglob("dense.npy"))) == 1  # the other folder holds no arrays of the exact engine
    shared = [len(set(ours) & set(theirs)) for ours, theirs in zip(found, expected, strict=True)]
    assert np.mean(shared) > 9.5
    own = np.take_along_axis(queries @ passages.T, found, axis=1)
    assert np.allclose(scores, own, atol=2e-3)  # the engine keeps two bytes a number
    del neighbours
    gc.collect()
    assert os.listdir(scratch) == []


def test_measuring_gives_the_same_with_it() -> None:
    passages, queries = from_pairs([(f"q{row % 40}", f"p{row}") for row in range(120)])
    embedder = TableEmbedder(
        {passage.text: vector for passage, vector in zip(passages, unit(120, 16, seed=1), strict=True)},
        {query.query: vector for query, vector in zip(queries, unit(40, 16, seed=2), strict=True)},
    )
    metrics = ["recall@10", "ndcg@10", "map@100"]
    found = measure(embedder, passages, queries, metrics=metrics, neighbours_of=passage_neighbours())
    expected = measure(embedder, passages, queries, metrics=metrics, neighbours_of=plain_neighbours)
    assert found.means == pytest.approx(expected.means, abs=1e-9)
    assert (found.found == expected.found).all()


def test_few_passages_are_never_made_a_graph(scratch: Path) -> None:
    neighbours = passage_neighbours(few_passages=400, exact_products=1)(unit(400, 8, seed=1))
    neighbours.nearest(unit(5, 8, seed=2), 3)
    assert len(list(scratch.rglob("dense.npy"))) == 1


def test_without_the_engine_of_graphs_all_is_compared(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import importlib.util

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "qdrant_edge" else find_spec(name, *rest)
    )
    passages, queries = unit(40, 8, seed=1), unit(5, 8, seed=2)
    neighbours = passage_neighbours(few_passages=1, exact_products=1)(passages)
    found, _ = neighbours.nearest(queries, 3)
    assert (found == plain_neighbours(passages).nearest(queries, 3)[0]).all()
    neighbours.nearest(queries, 3)
    assert caplog.text.count("40 passages are compared with each query one by one") == 1
