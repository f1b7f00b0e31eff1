"""Hard negatives: passages that a model takes for good answers and that are none, found with the model itself.

Among the nearest passages there are always answers that nobody has marked, so candidates that score almost as well as
the marked answer, or better, are left out. The rules are those of sentence-transformers' `mine_hard_negatives`, with
`relative_margin` = 1 - `exclude_above`.

Source: de Souza et al. 2024, "NV-Retriever: Improving text embedding models with effective hard-negative mining".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genai.config.embed_finetune import HardNegativesConfig
from genai.embedding.tuning.interfaces import NeighboursOf, PairScorer, Vectors
from genai.embedding.tuning.measuring import Check, go_on, scores_of
from genai.errors import DataError
from genai.log import progress
from genai.storage import atomic

_ROWS_AT_ONCE = 256
_ARRAYS = ("negatives", "scores", "positive_scores")
_COUNTS = ("num_candidates", "num_excluded")
_FINGERPRINT = "fingerprint"


@dataclass(frozen=True, kw_only=True)
class Mined:
    """The hard negatives of each query."""

    negatives: NDArray[np.int64]
    """(queries, num_negatives): positions in the corpus, the hardest first; -1 where too few were left."""
    scores: NDArray[np.float32]
    """(queries, num_negatives): of the model, or of the reranker where one decides; -inf where there is no negative."""
    positive_scores: NDArray[np.float32]
    """(queries,): of the query's own positive, on the same scale."""
    num_candidates: int
    """Passages that were looked at, answers left out."""
    num_excluded: int
    """Those of them that were left out as probable answers."""

    @property
    def mean_score(self) -> float:
        """Of the negatives; 0 where there is none."""
        there = self.negatives >= 0
        return float(self.scores[there].mean(dtype=np.float64)) if there.any() else 0.0

    @property
    def mean_positive_score(self) -> float:
        """Of the queries' own positives; 0 where there is none."""
        return float(self.positive_scores.mean(dtype=np.float64)) if len(self.positive_scores) else 0.0

    @property
    def share_excluded(self) -> float:
        """Of the candidates."""
        return self.num_excluded / self.num_candidates if self.num_candidates else 0.0

    @property
    def share_missing(self) -> float:
        """Of the places for negatives, those that are empty."""
        return float((self.negatives < 0).mean()) if self.negatives.size else 0.0

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all of it."""
        digest = hashlib.sha256()
        for name in _ARRAYS:
            array = getattr(self, name)
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        digest.update(" ".join(str(getattr(self, name)) for name in _COUNTS).encode())
        return f"sha256:{digest.hexdigest()}"


def mine(
    query_vectors: Vectors,
    passage_vectors: Vectors,
    positives: Sequence[Sequence[int]],
    config: HardNegativesConfig,
    *,
    neighbours_of: NeighboursOf,
    seed: int,
    allowed: NDArray[np.bool_] | None = None,
    scorer: PairScorer | None = None,
    queries: Sequence[str] = (),
    passages: Sequence[str] = (),
    check: Check = go_on,
) -> Mined:
    """Find negatives for each query.

    Of the nearest `candidates` passages that are no answers those are left out that score too near to the query's
    answers, or above them: of several answers the one with the lowest score decides. Of what is left the first `skip`
    are passed over, and then the hardest are taken, or any.

    Args:
        query_vectors: (queries, D), of length 1.
        passage_vectors: (passages, D), of length 1.
        positives: positions of all answers of each query, its own positive first.
        config: how many, and how they are chosen.
        neighbours_of: searches the vectors of passages; it is asked once, with all queries.
        seed: of random sampling; the same one gives the same negatives.
        allowed: (passages,): which may be negatives at all: those on the training side; None: all.
        scorer: a reranker, whose scores then stand in for the model's.
        queries: (queries,), the texts; needed by the reranker.
        passages: (passages,), the texts; needed by the reranker.
        check: asked between two portions.

    Raises:
        DataError: the reranker gave something that is no number.
    """
    if not len(query_vectors) == len(positives):
        raise ValueError(f"{len(query_vectors)} queries and the answers of {len(positives)}")
    answers = _answers(positives)
    candidates = _candidates(query_vectors, passage_vectors, answers, config.candidates, neighbours_of, allowed)
    if scorer is None:
        scores = _products(query_vectors, passage_vectors, candidates, check)
        answer_scores = _products(query_vectors, passage_vectors, answers, check)
    else:
        scores, answer_scores = _reranked(scorer, queries, passages, candidates, answers, check)
    is_excluded = _too_near(scores, np.where(answers >= 0, answer_scores, np.inf).min(axis=1, initial=np.inf), config)
    is_excluded &= candidates >= 0
    left = np.where((candidates >= 0) & ~is_excluded, scores, np.float32(-np.inf))
    chosen = _choose(left, config, np.random.default_rng(seed))
    is_there = chosen >= 0
    return Mined(
        negatives=np.where(is_there, np.take_along_axis(candidates, chosen, axis=1), -1),
        scores=np.where(is_there, np.take_along_axis(scores, chosen, axis=1), np.float32(-np.inf)),
        positive_scores=answer_scores[:, 0],
        num_candidates=int(np.count_nonzero(candidates >= 0)),
        num_excluded=int(np.count_nonzero(is_excluded)),
    )


def _answers(positives: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """(queries, most): the answers of each query, filled up with -1."""
    rows = [list(dict.fromkeys(places)) for places in positives]
    answers = np.full((len(rows), max(map(len, rows), default=1)), -1, dtype=np.int64)
    for row, places in enumerate(rows):
        if not places:
            raise ValueError(f"query {row} has no answer")
        answers[row, : len(places)] = places
    return answers


def _candidates(
    query_vectors: Vectors,
    passage_vectors: Vectors,
    answers: NDArray[np.int64],
    num: int,
    neighbours_of: NeighboursOf,
    allowed: NDArray[np.bool_] | None,
) -> NDArray[np.int64]:
    """(queries, looked at): the nearest passages that are allowed and no answers, at most `num` of them a query, in
    their order; -1 in all other places.
    """
    places = np.arange(len(passage_vectors)) if allowed is None else np.flatnonzero(allowed)
    if not len(places) or not len(query_vectors):
        return np.full((len(query_vectors), 1), -1, dtype=np.int64)
    neighbours = neighbours_of(passage_vectors if allowed is None else passage_vectors[places])
    # as many more as may turn out to be answers
    near, _ = neighbours.nearest(query_vectors, min(len(places), num + answers.shape[1]))
    candidates = np.where(near >= 0, places[near], -1)
    for column in range(answers.shape[1]):
        candidates[candidates == answers[:, [column]]] = -1
    candidates[np.cumsum(candidates >= 0, axis=1) > num] = -1
    return candidates


def _products(
    query_vectors: Vectors, passage_vectors: Vectors, places: NDArray[np.int64], check: Check
) -> NDArray[np.float32]:
    """(queries, places): cosines of each query with its own passages. They are computed anew: an engine may round."""
    products = np.zeros(places.shape, dtype=np.float32)
    for start in range(0, len(places), _ROWS_AT_ONCE):
        check()
        rows = slice(start, start + _ROWS_AT_ONCE)
        vectors = passage_vectors[np.maximum(places[rows], 0)]
        products[rows] = np.matmul(vectors, query_vectors[rows, :, None])[:, :, 0]
    return products


def _reranked(
    scorer: PairScorer,
    queries: Sequence[str],
    passages: Sequence[str],
    candidates: NDArray[np.int64],
    answers: NDArray[np.int64],
    check: Check,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What a reranker says about the candidates and the answers of each query."""
    scores = np.zeros(candidates.shape, dtype=np.float32)
    answer_scores = np.zeros(answers.shape, dtype=np.float32)
    with progress("scoring candidates", len(queries)) as task:
        for row, query in enumerate(queries):
            check()
            seen, own = candidates[row] >= 0, answers[row] >= 0
            places = [*answers[row, own], *candidates[row, seen]]
            given = scores_of(scorer, query, [passages[place] for place in places])
            answer_scores[row, own], scores[row, seen] = given[: own.sum()], given[own.sum() :]
            task.update(row + 1)
    return scores, answer_scores


def _too_near(
    scores: NDArray[np.float32], lowest: NDArray[np.float32], config: HardNegativesConfig
) -> NDArray[np.bool_]:
    """Which candidates are taken for answers; `lowest` is the score of each query's worst answer."""
    limit = lowest[:, None]
    is_near = np.zeros(scores.shape, dtype=np.bool_)
    if config.margin is not None:
        is_near |= scores + np.float32(config.margin) > limit
    if config.exclude_above is not None:
        # Not limit * share: that would allow more, not less, below 0.
        is_near |= scores > limit - np.abs(limit) * np.float32(1 - config.exclude_above)
    return is_near


def _choose(
    scores: NDArray[np.float32], config: HardNegativesConfig, generator: np.random.Generator
) -> NDArray[np.int64]:
    """(queries, num_negatives): which columns are taken, by falling score; -1 where there are too few.

    Args:
        scores: -inf for what cannot be taken. Of equal ones the first column comes first.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    is_left = np.take_along_axis(scores, order, axis=1) > -np.inf
    is_left[:, : config.skip] = False
    ranks = np.broadcast_to(np.arange(scores.shape[1], dtype=np.float64), scores.shape)
    turn = np.where(is_left, generator.random(scores.shape) if config.sampling == "random" else ranks, np.inf)
    first = np.argsort(turn, axis=1, kind="stable")[:, : config.num_negatives]
    none = scores.shape[1]
    taken = np.sort(np.where(np.take_along_axis(turn, first, axis=1) < np.inf, first, none), axis=1)
    chosen = np.full((len(scores), config.num_negatives), -1, dtype=np.int64)
    columns = np.take_along_axis(order, np.minimum(taken, none - 1), axis=1)
    chosen[:, : taken.shape[1]] = np.where(taken < none, columns, -1)
    return chosen


# --- on the disk ------------------------------------------------------------------------------------------------------


def write_negatives(folder: Path, name: str, mined: Mined) -> Path:
    """Put what was mined into `<folder>/<name>.safetensors`, whole or not at all.

    Args:
        folder: a run's `negatives/`; made where it is missing.
        name: by which it is read again.
        mined: arrays and counts.
    """
    from safetensors.numpy import save

    path = _path(folder, name)
    arrays = {array: np.ascontiguousarray(getattr(mined, array)) for array in _ARRAYS}
    notes = {_FINGERPRINT: mined.fingerprint, **{count: str(getattr(mined, count)) for count in _COUNTS}}
    atomic.write_bytes(path, save(arrays, notes))
    return path


def read_negatives(folder: Path, name: str) -> Mined:
    """What `write_negatives` has put there.

    Raises:
        DataError: it is not there, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = _path(folder, name)
    try:
        with safe_open(path, framework="numpy") as file:
            notes = file.metadata() or {}
            arrays = {array: file.get_tensor(array) for array in _ARRAYS}
        counts = {count: int(notes[count]) for count in _COUNTS}
        mined = Mined(**arrays, **counts)  # type: ignore[arg-type]
        is_whole = notes.get(_FINGERPRINT) == mined.fingerprint
    except FileNotFoundError:
        raise _unreadable(path, "are not there (any more)") from None
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise _unreadable(path, "are damaged") from error
    if not is_whole:
        raise _unreadable(path, "are damaged")
    return mined


def _path(folder: Path, name: str) -> Path:
    return folder / f"{atomic.safe_name(name, kind='name for negatives')}.safetensors"


def _unreadable(path: Path, what: str) -> DataError:
    return DataError(f"the mined negatives {what}", where=str(path), fix="start another run with --run-name")
