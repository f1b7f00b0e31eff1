"""Batches in which no row's answer stands as another row's document.

With losses over the batch, the documents of all other rows are a query's negatives; so a query or a passage that came
twice, or a passage that answers another row's query, would be taught to be wrong.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

_Clash = tuple[str, int]
"""What keeps a row out of a batch: its query is there, its passage answers a query there, or its query is answered by a
passage there."""


def distinct_batches(
    order: Iterable[int],
    *,
    batch_size: int,
    query_ids: Sequence[int],
    passages: Sequence[int],
    answers: Sequence[Sequence[int]],
) -> list[list[int]]:
    """Divide rows into batches; one that clashes waits for a later batch, where it comes before those behind it.

    Every row comes once. A batch is short only where all rows that are left clash with it.

    Args:
        order: numbers of the rows.
        batch_size: rows a batch.
        query_ids: of each row.
        passages: the passage of each row.
        answers: all passages that answer each row's query, its own among them.
    """
    waiting: dict[_Clash, deque[int]] = {}
    upcoming = iter(order)
    batches: list[list[int]] = []

    def take(row: int, batch: _Batch) -> None:
        clash = batch.clash(query_ids[row], passages[row], answers[row])
        if clash is None:
            batch.add(row, query_ids[row], passages[row], answers[row])
        else:
            waiting.setdefault(clash, deque()).append(row)

    while True:
        batch = _Batch()
        # Who waits for one thing is looked at only when it is not there: what all rows share costs one look a batch.
        for clash in list(waiting):
            rows = waiting[clash]
            while rows and len(batch.rows) < batch_size and not batch.has(clash):
                take(rows.popleft(), batch)
            if not rows:
                del waiting[clash]
        while len(batch.rows) < batch_size and (row := next(upcoming, None)) is not None:
            take(row, batch)
        if not batch.rows:
            return batches
        batches.append(batch.rows)


class _Batch:
    """The rows of a batch that is being filled, and what they rule out."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self._there: dict[str, set[int]] = {"query": set(), "answer": set(), "passage": set()}

    def has(self, clash: _Clash) -> bool:
        kind, number = clash
        return number in self._there[kind]

    def clash(self, query: int, passage: int, answers: Sequence[int]) -> _Clash | None:
        if query in self._there["query"]:
            return "query", query
        if passage in self._there["answer"]:
            return "answer", passage
        found = next((answer for answer in answers if answer in self._there["passage"]), None)
        return None if found is None else ("passage", found)

    def add(self, row: int, query: int, passage: int, answers: Sequence[int]) -> None:
        self.rows.append(row)
        self._there["query"].add(query)
        self._there["passage"].add(passage)
        self._there["answer"].update(answers)
