"""Texts as tokens, in one piece of memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from genai.embedding.tuning.interfaces import Ids
from genai.embedding.tuning.tokenising import FlatTokens, lengths_of, token_table


def tokens_of(texts: Sequence[str], kind: Literal["query", "document"]) -> tuple[list[Ids], int]:
    """One token a letter, at most five, after one that says which kind."""
    ids = [np.array([1 if kind == "query" else 2, *map(ord, text[:5])], dtype=np.int32) for text in texts]
    return ids, sum(len(text) > 5 for text in texts)


def test_texts_of_both_kinds() -> None:
    table = token_table(tokens_of, ["ab", "longer text"], ["c", "", "d" * 9])
    assert [ids.tolist() for ids in table.queries] == [[1, 97, 98], [1, *map(ord, "longe")]]
    assert [ids.tolist() for ids in table.passages] == [[2, 99], [2], [2, *map(ord, "ddddd")]]
    assert (table.num_cut_queries, table.num_cut_passages) == (1, 1)
    assert table.passages[-1].dtype == np.int32
    assert lengths_of(table.passages).tolist() == lengths_of(list(table.passages)).tolist() == [2, 1, 6]
    assert [ids.tolist() for ids in table.passages[1:]] == [[2], [2, *map(ord, "ddddd")]]


def test_many_texts_lie_in_one_array() -> None:
    texts = [f"{n:05}" for n in range(10_000)]
    table = token_table(tokens_of, texts, [])
    assert len(table.passages) == 0
    assert isinstance(table.queries, FlatTokens)
    assert all("".join(map(chr, ids[1:])) == text for ids, text in zip(table.queries, texts, strict=True))
    assert table.queries[0].base is table.queries[9_999].base  # no array of its own for each
