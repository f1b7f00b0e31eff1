"""Numbers about the data."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from genai.data import summary
from genai.data.rows import BadRow, Message, Row, RowSet
from genai.data.summary import find_overlap, summarise_rows, summarise_tokens
from genai.data.tokenized import TokenizedRows


def row(prompt: str, answer: str = "So.", system: str | None = None) -> Row:
    messages = [Message(role="system", content=system)] if system else []
    messages += [Message(role="user", content=prompt), Message(role="assistant", content=answer, trained=True)]
    return Row(messages=tuple(messages))


TRAIN = [row("How long does a permit take?"), row("Who pays?"), row("Who pays?"), row("Who pays?"), row("Where?")]
BAD = (BadRow(source="a:1", reason="x"),)


def test_rows_copies_and_bad_ones() -> None:
    found = summarise_rows(RowSet(rows=tuple(TRAIN), bad=BAD))
    assert (found.train.num_rows, found.train.num_bad, found.train.duplicates) == (5, 1, (2, 3))
    assert (found.evaluation, found.overlap) == (None, None)
    assert found.lines() == ["train: 5 rows (2 copies, 1 bad)"]


def test_overlap_does_not_ask_for_the_same_system_prompt() -> None:
    evaluation = [row("Who pays?", system="Be kind."), row("How long does the permit take?"), row("When?")]
    overlap = find_overlap(TRAIN, evaluation)
    assert (overlap.num_rows, overlap.leaked, overlap.near) == (3, (0,), (1,))


def test_near_duplicates_of_very_many_rows_are_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "MAX_ROWS_COMPARED", 7)
    assert find_overlap(TRAIN, TRAIN[:2]).near == ()
    assert find_overlap(TRAIN, TRAIN[:3]).near is None


def test_near_duplicates_are_told_with_the_way_out() -> None:
    found = summarise_rows(
        RowSet(rows=tuple(TRAIN)), RowSet(rows=(row("How long does the permit take?"), row("When?")))
    )
    assert found.lines() == [
        "train: 5 rows (2 copies)",
        "eval: 2 rows",
        "1 of 2 evaluation rows have a near duplicate among the training rows "
        "(data.split.group_by: near_duplicates keeps them together)",
    ]


@pytest.fixture
def tokenized() -> TokenizedRows:
    """Four examples, one of them untrained, two of them cut; three more were dropped and one refused."""
    rows = TokenizedRows.from_lists(
        [[0] * length for length in (4, 10, 20, 6)],
        [[False, False, True, True], [False] * 5 + [True] * 5, [False] * 20, [True] * 6],
    )
    truncated, answer_cut = np.array([False, True, True, False]), np.array([False, True, False, False])
    return replace(rows, truncated=truncated, answer_cut=answer_cut, num_dropped=3, bad=BAD)


def test_tokens(tokenized: TokenizedRows) -> None:
    found = summarise_tokens(tokenized)
    assert (found.num_examples, found.num_tokens, found.num_trained_tokens) == (4, 40, 12)
    assert (found.num_truncated, found.num_dropped, found.num_answers_cut) == (5, 3, 1)
    assert (found.num_untrained, found.num_bad) == (1, 1)
    assert (found.min_length, found.max_length, found.mean_length, found.trained_share) == (4, 20, 10.0, 0.3)
    assert found.percentiles == {5: 4, 25: 4, 50: 6, 75: 10, 95: 10, 99: 10}
    assert found.histogram_edges == tuple(range(21))
    assert [found.histogram_counts[n] for n in (4, 6, 10, 19)] == [1, 1, 1, 1]
    assert sum(found.histogram_counts) == 4


def test_no_tokens_at_all() -> None:
    found = summarise_tokens(TokenizedRows.from_lists([]))
    assert (found.num_examples, found.mean_length, found.trained_share, found.max_length) == (0, 0.0, 0.0, 0)
    assert sum(found.histogram_counts) == 0


def test_one_length_only() -> None:
    found = summarise_tokens(TokenizedRows.from_lists([[1]] * 5))
    assert (found.histogram_edges, found.histogram_counts) == ((0, 1), (5,))


def test_lines_and_json(tokenized: TokenizedRows) -> None:
    rows = summarise_rows(RowSet(rows=tuple(TRAIN)), RowSet(rows=(row("When?"),)))
    found = replace(rows, train_tokens=summarise_tokens(tokenized))
    assert found.lines() == [
        "train: 5 rows (2 copies), 40 tokens, 30% of them trained",
        "train: 4 / 6 / 10 tokens a row (5 / 50 / 95 %), longest 20, 5 too long, 1 answers cut off",
        "eval: 1 rows",
    ]
    values = json.loads(json.dumps(found.to_json()))
    assert values["train"] == {"num_rows": 5, "num_bad": 0, "num_duplicates": 2}
    assert values["overlap"] == {"num_rows": 1, "num_leaked": 0, "num_near": 0}
    assert values["train_tokens"]["trained_share"] == 0.3
    assert values["train_tokens"]["percentiles"]["50"] == 6
    assert values["evaluation_tokens"] is None
