from __future__ import annotations

from typing import Any

from genai.index.ledger_records import StoredChunk
from genai.jobs.index_report import _groups


def chunks(*metadata: dict[str, Any]) -> list[StoredChunk]:
    return [
        StoredChunk(
            id=str(number),
            key=str(number),
            ordinal=0,
            text="",
            start=0,
            end=0,
            page=None,
            heading=None,
            source="",
            metadata=values,
            tenant=None,
            sequence=1,
            removed=False,
            hash=b"",
            tokens=1,
        )
        for number, values in enumerate(metadata)
    ]


def test_the_first_column_that_tells_chunks_apart_makes_the_groups() -> None:
    rows = [{"year": 2020, "id": str(n), "kind": "x", "topic": topic} for n, topic in enumerate("aaabbbccddeef")]
    assert _groups(chunks(*rows)) == ["a"] * 3 + ["b"] * 3 + ["c"] * 2 + ["others"] * 5


def test_without_such_a_column_all_are_one_group() -> None:
    assert _groups(chunks({}, {})) == ["", ""]
    assert _groups(chunks({"n": 1}, {"n": 2})) == ["", ""]
    assert _groups(chunks({"a": ["x", "y"]}, {"a": "only"})) == ["", ""]
