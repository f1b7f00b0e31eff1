"""An index is removed with everything that belongs to it, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from memory_source import FollowingIndex

from genai.errors import GenaiError
from genai.index.dropping import drop
from genai.index.ledger import list_indexes


def test_a_dropped_index_is_gone(tmp_path: Path) -> None:
    index = FollowingIndex(tmp_path)
    index.source.put("k", "text")
    index.sync()
    drop(index.ledger, index.engine())
    assert list(tmp_path.iterdir()) == [] and list_indexes(tmp_path) == []


def test_an_index_that_somebody_changes_is_not_dropped(tmp_path: Path) -> None:
    index, other = FollowingIndex(tmp_path), FollowingIndex(tmp_path)
    with other.ledger.alone(), pytest.raises(GenaiError, match="is held by process"):
        drop(index.ledger, index.engine())
    assert list_indexes(tmp_path) == ["rows"]


def test_what_the_engine_keeps_elsewhere_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = FollowingIndex(tmp_path)
    engine = index.engine()

    def unreachable(tokens: object) -> None:
        raise GenaiError("the server does not answer")

    monkeypatch.setattr(engine, "sweep", unreachable)
    with pytest.raises(GenaiError, match="does not answer"):
        drop(index.ledger, engine)
    assert list_indexes(tmp_path) == ["rows"]
