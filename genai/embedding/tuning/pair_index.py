"""Pairs as positions: which passage each is about, what else answers its query, and what may stand as a negative."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genai.data.retrieval.grades import is_answer, middle_grade, query_key
from genai.data.retrieval.records import HeldOutQuery, Pair, RetrievalData
from genai.data.retrieval.splitting import fingerprint


@dataclass(frozen=True, kw_only=True)
class PairIndex:
    """Rows are the training pairs in their order, then one for each validation query (its best answer).

    Positions are those of the passages of the corpus, then of texts that are only trained on.
    """

    queries: tuple[str, ...]
    """Text of each row's query."""
    texts: tuple[str, ...]
    """Text at each position."""
    num_pairs: int
    """Training pairs: the rows before the validation queries."""
    positives: NDArray[np.int64]
    """Position of what is trained on, (rows,)."""
    passages: NDArray[np.int64]
    """Position of the passage in the corpus, (rows,): another one where a pair has a text of its own."""
    given: NDArray[np.int64]
    """Negatives that the data gives, -1 where there are fewer, (rows, K0)."""
    scores: NDArray[np.float32] | None
    """Grades, (rows,); None where there are none or they do not count."""
    query_ids: NDArray[np.int64]
    """Equal for rows of the same query, (rows,)."""
    row_answers: tuple[tuple[int, ...], ...]
    """Of each row, positions in the corpus of all that answers its query, its own passage first."""
    trained: NDArray[np.int64]
    """Training pairs that take part, ascending: without grades only those that are an answer."""
    may_be_negative: NDArray[np.bool_]
    """Which passages of the corpus training may push away, (passages,)."""
    fingerprint: str
    """Hash of the data and of how it is used."""

    @property
    def answers(self) -> tuple[tuple[int, ...], ...]:
        """Of each training pair."""
        return self.row_answers[: self.num_pairs]

    @property
    def validation(self) -> NDArray[np.int64]:
        """Rows of the validation queries."""
        return np.arange(self.num_pairs, len(self.queries))


def index_pairs(data: RetrievalData, *, graded: bool = False) -> PairIndex:
    """Find the positions of all pairs.

    Args:
        data: what is trained and measured with.
        graded: the loss learns from the column score; without it, pairs whose grade says that they are no answer are
            left out.
    """
    position = {passage.key: place for place, passage in enumerate(data.passages)}
    rows = [*data.train, *(_row(query) for query in data.validation)]
    middle = middle_grade(data.train)
    keys = [query_key(row.query) for row in rows]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    found: dict[str, dict[int, None]] = {key: {} for key in numbers}
    for key, row in zip(keys, data.train, strict=False):
        if is_answer(row, middle):
            found[key][position[row.positive]] = None
    for query in data.validation:
        known = {position[name]: None for name in query.relevant if name in position}
        found[query_key(query.query)].update(known)
    passages = np.array([position[row.positive] for row in rows], dtype=np.int64)
    answers = tuple(tuple(dict.fromkeys([own, *found[key]])) for own, key in zip(passages.tolist(), keys, strict=True))
    texts = [passage.text for passage in data.passages]
    positives = _positives(rows, passages, texts)
    used = np.array([graded or is_answer(pair, middle) for pair in data.train], dtype=np.bool_)
    has_scores = graded and any(pair.score is not None for pair in data.train)
    return PairIndex(
        queries=tuple(row.query for row in rows),
        texts=tuple(texts),
        num_pairs=len(data.train),
        positives=positives,
        passages=passages,
        given=_given(rows, answers, position),
        scores=np.array([_grade(row) for row in rows], dtype=np.float32) if has_scores else None,
        query_ids=np.array([numbers[key] for key in keys], dtype=np.int64),
        row_answers=answers,
        trained=np.flatnonzero(used),
        may_be_negative=np.array([passage.key not in data.kept_back for passage in data.passages], dtype=np.bool_),
        fingerprint=hashlib.sha256(f"{data.fingerprint or fingerprint(data)} {has_scores}".encode()).hexdigest(),
    )


def _row(query: HeldOutQuery) -> Pair:
    best = max(query.relevant, key=lambda key: query.relevant[key])
    return Pair(query=query.query, positive=best, score=query.relevant[best], source=query.source)


def _grade(row: Pair) -> float:
    return 1.0 if row.score is None else row.score


def _positives(rows: Sequence[Pair], passages: NDArray[np.int64], texts: list[str]) -> NDArray[np.int64]:
    """What each row trains on; texts that are no passage are put behind them."""
    added: dict[str, int] = {}
    positives = passages.copy()
    for number, row in enumerate(rows):
        if row.positive_text is not None and row.positive_text != texts[passages[number]]:
            if row.positive_text not in added:
                added[row.positive_text] = len(texts)
                texts.append(row.positive_text)
            positives[number] = added[row.positive_text]
    return positives


def _given(rows: Sequence[Pair], answers: Sequence[tuple[int, ...]], position: dict[str, int]) -> NDArray[np.int64]:
    """Given negatives that answer nobody's query of that name."""
    kept = [
        [place for key in row.negatives if (place := position.get(key, -1)) >= 0 and place not in its]
        for row, its in zip(rows, answers, strict=True)
    ]
    given = np.full((len(rows), max(map(len, kept), default=0)), -1, dtype=np.int64)
    for number, places in enumerate(kept):
        given[number, : len(places)] = places
    return given
