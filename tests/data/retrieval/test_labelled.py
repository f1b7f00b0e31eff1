"""Labelled queries to measure a model with; faults of their rows are tested with the index's queries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from genai.data.retrieval.labelled import read_held_out
from genai.errors import ConfigError


def test_rows_become_held_out_queries(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "queries.jsonl"
    rows = [{"query": "a", "relevant": {"x": 2, "y": 0}}, {"query": "b", "relevant": 17, "tenant": "acme"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second = read_held_out(str(path))
    assert (first.query, first.relevant, first.source) == ("a", {"x": 2.0}, f"{path}:1")
    assert second.relevant == {"17": 1.0}
    assert f"filter and tenant of 1 queries (the first: {path}:2) are for an index" in caplog.text


def test_a_bad_row_is_told(tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    path.write_text('{"query": "a"}\n')
    with pytest.raises(ConfigError, match="'relevant' names nothing"):
        read_held_out(str(path))
