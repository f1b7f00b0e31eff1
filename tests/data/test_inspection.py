from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from genai.data.inspection import Lengths, as_row, compare, look_at_tokens
from genai.data.mds import MDSWriter
from genai.data.rows import Message, Row


@pytest.fixture
def tokens(tmp_path: Path) -> str:
    """Rows of four tokens in two shards; 0 ends a document; the last row stands there twice."""
    rows = np.array([[5, 5, 5, 0], [6, 0, 7, 7], [7, 7, 7, 0], [9, 9, 9, 9], [9, 9, 9, 9]], dtype=np.uint16)
    with MDSWriter(str(tmp_path / "set"), {"tokens": "ndarray:uint16:4"}, size_limit_bytes=200) as writer:
        writer.write_rows("tokens", rows)
    return str(tmp_path / "set")


def test_token_rows(tokens: str) -> None:
    found = look_at_tokens(tokens, end_of_text_id=0, max_documents=10)
    assert (found.counts.tokens, found.counts.rows, found.counts.seq_len) == (20, 5, 4)
    assert found.counts.documents == 3
    assert found.counts.different_tokens == 5
    assert found.counts.frequent == ((9, 8), (7, 5), (0, 3), (5, 3), (6, 1))
    assert (found.repeated_rows.compared, found.repeated_rows.exact) == (5, 1)
    assert [ids.tolist() for ids in found.first_documents] == [[5, 5, 5], [6], [7, 7, 7, 7, 7]]
    assert found.documents is not None
    assert (found.documents.count, found.documents.mean) == (3, 3)
    assert [ids.tolist() for ids in look_at_tokens(tokens, end_of_text_id=0, max_documents=1).first_documents] == [
        [5, 5, 5]
    ]


def test_without_an_end_of_text_there_are_no_documents(tokens: str) -> None:
    found = look_at_tokens(tokens, end_of_text_id=None, max_documents=10)
    assert found.counts.documents is None
    assert found.documents is None
    assert found.first_documents == ()


def test_lengths() -> None:
    found = Lengths.of(np.array([3, 4, 5, 100, 0]), "tokens")
    assert found is not None
    assert found.histogram == ((2, 1), (4, 1), (8, 2), (16, 0), (32, 0), (64, 0), (128, 1))
    assert found.quantiles["0.5"] == 4
    assert sum(count for _, count in found.histogram) == found.count == 5
    assert Lengths.of(np.zeros(0, dtype=np.int64), "tokens") is None
    assert Lengths.of(np.array([0, 0]), "tokens") is not None


def test_duplicates() -> None:
    base = "Is a building permit required for a deck behind the house in the summer?"
    rows = [Row(text=text) for text in (base, base.replace("house", "home"), base, "Something else entirely.")]
    lengths, found = compare(iter(rows), near_among=10)
    assert (found.compared, found.exact, found.near, found.largest) == (4, 1, 2, 3)
    assert lengths is not None
    assert lengths.unit == "characters"
    lengths, found = compare(rows, near_among=0, token_lengths=lambda texts: [1] * len(texts))
    assert (found.near, found.near_compared) == (None, 0)
    assert lengths is not None
    assert (lengths.unit, lengths.mean) == ("tokens", 1)


def test_samples_as_rows() -> None:
    assert as_row({"messages": [{"role": "user", "content": "q"}]}).messages[0] == Message(role="user", content="q")
    assert as_row({"text": "plain"}).text == "plain"
    assert as_row({"a": 1, "b": "x"}).text == "a: 1\nb: x"
