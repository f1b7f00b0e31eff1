"""Against sentence-transformers' miner, against the rules written down query by query, and what must never happen."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_search import plain_neighbours

from genai.config.embed_finetune import HardNegativesConfig
from genai.embedding.tuning.negatives import Mined, mine, read_negatives, write_negatives
from genai.errors import DataError, UsageError

REFERENCE = json.loads(Path(__file__).with_name("hard_negatives.json").read_text())
CASES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 1000),
        "num_passages": st.integers(2, 40),
        "most_answers": st.integers(1, 3),
        "share_allowed": st.sampled_from([0.0, 0.3, 1.0]),
    }
)
CONFIGS = st.builds(
    HardNegativesConfig,
    num_negatives=st.integers(1, 6),
    candidates=st.integers(1, 30),
    skip=st.integers(0, 4),
    exclude_above=st.sampled_from([None, 0.5, 0.95, 1.0]),
    margin=st.sampled_from([None, 0.0, 0.2]),
    sampling=st.sampled_from(["top", "random"]),
)


def unit(vectors: Any) -> Any:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def made(seed: int, num_passages: int, most_answers: int = 1, share_allowed: float = 1.0, num_queries: int = 9) -> Any:
    generator = np.random.default_rng(seed)
    passages = unit(generator.standard_normal((num_passages, 6)))
    queries = unit(
        passages[generator.integers(num_passages, size=num_queries)] + 0.4 * generator.standard_normal((num_queries, 6))
    )
    positives = [
        generator.choice(num_passages, size=min(num_passages, int(number)), replace=False).tolist()
        for number in generator.integers(1, most_answers + 1, size=num_queries)
    ]
    return queries, passages, positives, generator.random(num_passages) < share_allowed


def found(mined: Mined) -> list[list[int]]:
    return [[int(place) for place in row if place >= 0] for row in mined.negatives]


def by_the_rules(queries: Any, passages: Any, positives: Any, allowed: Any, config: HardNegativesConfig) -> Any:
    """What is left for each query in falling order, and how many were looked at and left out."""
    rows, looked_at, excluded = [], 0, 0
    for query, answers in zip(queries, positives, strict=True):
        scores = [float(query @ passage) for passage in passages]
        near = sorted((place for place in range(len(passages)) if allowed[place]), key=lambda place: -scores[place])
        near = [place for place in near if place not in answers][: config.candidates]
        lowest = min(scores[place] for place in answers)
        left = near
        if config.margin is not None:
            left = [place for place in left if scores[place] + config.margin <= lowest]
        if config.exclude_above is not None:
            left = [place for place in left if scores[place] <= lowest - abs(lowest) * (1 - config.exclude_above)]
        looked_at, excluded = looked_at + len(near), excluded + len(near) - len(left)
        rows.append(left[config.skip :])
    return rows, looked_at, excluded


@pytest.mark.parametrize("case", REFERENCE, ids=lambda case: str(case["settings"]))
def test_negatives_are_those_of_sentence_transformers(case: Any) -> None:
    mined = mine(
        np.array(case["queries"], dtype=np.float32),
        np.array(case["passages"], dtype=np.float32),
        case["positives"],
        HardNegativesConfig(**case["settings"]),
        neighbours_of=plain_neighbours,
        seed=0,
    )
    assert found(mined) == case["negatives"]


@settings(max_examples=150)
@given(CASES, CONFIGS)
def test_negatives_are_those_of_the_rules(case: Any, config: HardNegativesConfig) -> None:
    queries, passages, positives, allowed = made(**case)
    mined = mine(queries, passages, positives, config, neighbours_of=plain_neighbours, allowed=allowed, seed=3)
    rows, looked_at, excluded = by_the_rules(queries, passages, positives, allowed, config)
    assert mined.negatives.shape == mined.scores.shape == (len(queries), config.num_negatives)
    assert (mined.num_candidates, mined.num_excluded) == (looked_at, excluded)
    for row, (negatives, left) in enumerate(zip(found(mined), rows, strict=True)):
        assert len(negatives) == min(config.num_negatives, len(left))
        assert not set(negatives) & set(positives[row])
        assert len(set(negatives)) == len(negatives)
        assert set(negatives) <= set(left)
        assert all(allowed[place] for place in negatives)
        if config.sampling == "top":
            assert negatives == left[: config.num_negatives]
        scores = mined.scores[row, : len(negatives)]
        assert scores == pytest.approx([float(queries[row] @ passages[place]) for place in negatives], abs=1e-6)
        assert list(scores) == sorted(scores, reverse=True)
        assert (mined.negatives[row, len(negatives) :] == -1).all()
        assert np.isneginf(mined.scores[row, len(negatives) :]).all()
        assert mined.positive_scores[row] == pytest.approx(float(queries[row] @ passages[positives[row][0]]), abs=1e-6)


def test_below_zero_a_share_excludes_more_and_not_less() -> None:
    passages = np.array([[-0.5, 0], [-0.55, 0], [-0.7, 0]], dtype=np.float32)
    config = HardNegativesConfig(num_negatives=2, exclude_above=0.8)
    mined = mine(np.array([[1, 0]], dtype=np.float32), passages, [[0]], config, neighbours_of=plain_neighbours, seed=0)
    assert found(mined) == [[2]]  # -0.55 lies above -0.5 - 0.1


def test_random_negatives_come_by_the_seed_and_from_everywhere() -> None:
    queries, passages, positives, _ = made(1, 40, num_queries=200)
    config = HardNegativesConfig(num_negatives=2, candidates=10, exclude_above=None, sampling="random")

    def negatives(seed: int) -> list[list[int]]:
        return found(mine(queries, passages, positives, config, neighbours_of=plain_neighbours, seed=seed))

    assert negatives(1) == negatives(1) != negatives(2)
    left, _, _ = by_the_rules(queries, passages, positives, np.ones(40, dtype=bool), config)
    ranks = [row.index(place) for chosen, row in zip(negatives(1), left, strict=True) for place in chosen]
    counts = np.bincount(ranks, minlength=10)
    assert counts.sum() == 400
    assert counts.min() > 20  # 40 of each are expected, with a standard deviation of 6
    assert counts.max() < 60


def test_the_engine_is_asked_once_and_only_for_what_is_allowed() -> None:
    queries, passages, positives, _ = made(2, 30, most_answers=3)
    asked: list[Any] = []

    def neighbours_of(vectors: Any) -> Any:
        asked.append(plain_neighbours(vectors))
        return asked[-1]

    allowed = np.arange(30) % 3 > 0
    mine(
        queries,
        passages,
        positives,
        HardNegativesConfig(candidates=8),
        neighbours_of=neighbours_of,
        allowed=allowed,
        seed=0,
    )
    [neighbours] = asked
    assert np.allclose(neighbours.vectors, passages[allowed])
    assert neighbours.asked == [(9, 8 + 3)]


class Judge:
    """A reranker with its own opinion: the later a passage, the better; remembers what it was shown."""

    def __init__(self) -> None:
        self.shown: dict[str, list[str]] = {}

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        self.shown[query] = list(texts)
        return [int(text) / 100 for text in texts]


def test_a_reranker_decides_in_place_of_the_model() -> None:
    queries, passages, _, _ = made(4, 40)
    positives = [[35, 30, 35]] * 9
    config = HardNegativesConfig(num_negatives=3, candidates=12, exclude_above=0.8)
    judge = Judge()
    mined = mine(
        queries,
        passages,
        positives,
        config,
        neighbours_of=plain_neighbours,
        seed=0,
        scorer=judge,
        queries=[f"q{row}" for row in range(9)],
        passages=[str(place) for place in range(40)],
    )
    products = queries @ passages.T
    for row in range(9):
        near = [place for place in np.argsort(-products[row]) if place not in (35, 30)][:12]
        assert sorted(map(int, judge.shown[f"q{row}"])) == sorted([*near, 30, 35])
        wanted = sorted((int(place) for place in near if place / 100 <= 0.30 * 0.8), reverse=True)[:3]
        assert found(mined)[row] == wanted
        assert mined.scores[row, : len(wanted)] == pytest.approx([place / 100 for place in wanted])
    assert mined.positive_scores == pytest.approx([0.35] * 9)


def test_a_reranker_that_gives_no_number_is_refused() -> None:
    class Broken:
        def score(self, query: str, texts: Sequence[str]) -> list[float]:
            return [float("nan")] * len(texts)

    queries, passages, positives, _ = made(4, 10)
    with pytest.raises(DataError, match="the reranker gave no finite number"):
        mine(
            *(queries, passages, positives, HardNegativesConfig()),
            neighbours_of=plain_neighbours,
            seed=0,
            scorer=Broken(),
            queries=["q"] * 9,
            passages=["p"] * 10,
        )


def test_it_can_be_ended_between_portions() -> None:
    class Enough(Exception):
        pass

    def stop() -> None:
        raise Enough

    queries, passages, positives, _ = made(4, 10)
    with pytest.raises(Enough):
        mine(queries, passages, positives, HardNegativesConfig(), neighbours_of=plain_neighbours, seed=0, check=stop)


def test_counts_of_what_was_mined() -> None:
    queries = np.array([[1, 0], [1, 0]], dtype=np.float32)
    passages = np.array([[0.8, 0], [0.79, 0], [0.5, 0], [0.3, 0]], dtype=np.float32)
    config = HardNegativesConfig(num_negatives=3, exclude_above=0.95)
    mined = mine(queries, passages, [[0], [0, 2]], config, neighbours_of=plain_neighbours, seed=0)
    assert found(mined) == [[2, 3], [3]]
    assert mined.mean_score == pytest.approx((0.5 + 0.3 + 0.3) / 3)
    assert mined.mean_positive_score == pytest.approx(0.8)
    assert mined.share_excluded == pytest.approx(2 / 5)  # 0.79, twice, of 3 and 2 candidates
    assert mined.share_missing == pytest.approx(3 / 6)


@pytest.mark.parametrize("allowed", [np.zeros(5, dtype=bool), None])
def test_where_nothing_is_left_all_places_are_empty(allowed: Any) -> None:
    queries, passages, _, _ = made(1, 5)
    everything = [list(range(5))] * 9
    mined = mine(
        queries, passages, everything, HardNegativesConfig(), neighbours_of=plain_neighbours, allowed=allowed, seed=0
    )
    assert (mined.negatives == -1).all()
    assert (mined.mean_score, mined.share_excluded, mined.share_missing) == (0, 0, 1)


def test_no_query_and_a_query_without_an_answer() -> None:
    queries, passages, positives, _ = made(1, 5)
    mined = mine(queries[:0], passages, [], HardNegativesConfig(), neighbours_of=plain_neighbours, seed=0)
    assert mined.negatives.shape == (0, 4)
    assert (mined.mean_score, mined.mean_positive_score, mined.share_missing) == (0, 0, 0)
    with pytest.raises(ValueError, match="query 1 has no answer"):
        mine(
            queries, passages, [[0], [], *positives[2:]], HardNegativesConfig(), neighbours_of=plain_neighbours, seed=0
        )
    with pytest.raises(ValueError, match="9 queries and the answers of 8"):
        mine(queries, passages, positives[:-1], HardNegativesConfig(), neighbours_of=plain_neighbours, seed=0)


# --- on the disk ------------------------------------------------------------------------------------------------------


def some() -> Mined:
    queries, passages, positives, _ = made(1, 20)
    return mine(queries, passages, positives, HardNegativesConfig(), neighbours_of=plain_neighbours, seed=0)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    mined = some()
    path = write_negatives(tmp_path / "negatives", "ba00000100", mined)
    assert os.listdir(tmp_path / "negatives") == [path.name] == ["ba00000100.safetensors"]
    again = read_negatives(tmp_path / "negatives", "ba00000100")
    assert again.fingerprint == mined.fingerprint
    assert (again.negatives == mined.negatives).all()
    assert again.scores.dtype == np.float32
    assert (again.scores == mined.scores).all()
    assert (again.positive_scores == mined.positive_scores).all()
    assert (again.num_candidates, again.num_excluded) == (mined.num_candidates, mined.num_excluded)


def test_the_fingerprint_is_of_everything() -> None:
    from dataclasses import replace

    mined = some()
    assert some().fingerprint == mined.fingerprint
    for name in ("negatives", "scores", "positive_scores", "num_candidates", "num_excluded"):
        assert replace(mined, **{name: getattr(mined, name) + 1}).fingerprint != mined.fingerprint


@pytest.mark.parametrize("place", [0, 10, 200, -1, -60])
def test_a_file_with_another_byte_is_damaged(tmp_path: Path, place: int) -> None:
    path = write_negatives(tmp_path, "first", some())
    content = bytearray(path.read_bytes())
    content[place] ^= 0x41
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_negatives(tmp_path, "first")
    assert str(error.value) == f"{path}: the mined negatives are damaged (start another run with --run-name)"


@pytest.mark.parametrize("left", [0, 7, 100, -1])
def test_a_file_that_was_cut_off_is_damaged(tmp_path: Path, left: int) -> None:
    path = write_negatives(tmp_path, "first", some())
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(DataError, match="the mined negatives are damaged"):
        read_negatives(tmp_path, "first")


def test_a_file_of_something_else_is_damaged(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"negatives": np.zeros((1, 1), dtype=np.int64)}, tmp_path / "first.safetensors")
    with pytest.raises(DataError, match="the mined negatives are damaged"):
        read_negatives(tmp_path, "first")


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"first.safetensors: the mined negatives are not there \(any more\)"):
        read_negatives(tmp_path, "first")


def test_a_name_stays_in_the_folder(tmp_path: Path) -> None:
    for call in (lambda: read_negatives(tmp_path, "../x"), lambda: write_negatives(tmp_path, "a/b", some())):
        with pytest.raises(UsageError, match="cannot be used as a name for negatives"):
            call()
