"""Which sentence cites which passage."""

from __future__ import annotations

import time

import pytest

from genai.evaluation.citations import citations_of


@pytest.mark.parametrize(
    ("answer", "pairs"),
    [
        ("Bees eat honey [1].", [("Bees eat honey.", 1)]),
        ("Bees eat honey. [1] They fly.[2]", [("Bees eat honey.", 1), ("They fly.", 2)]),
        ("Honey [1, 3], wax [2].", [("Honey, wax.", 1), ("Honey, wax.", 3), ("Honey, wax.", 2)]),
        ("Honey [1][1][2].", [("Honey.", 1), ("Honey.", 2)]),
        ("Honey [1-3].", [("Honey.", 1), ("Honey.", 2), ("Honey.", 3)]),
        ("Dr. Who says so [4].", [("Dr. Who says so.", 4)]),
        ("Nothing here. At all [see below] or [a1].", []),
        ("[1]", []),
        ("Honey [7].", [("Honey.", 7)]),
    ],
)
def test_citations(answer: str, pairs: list[tuple[str, int]]) -> None:
    assert [(each.sentence, each.passage) for each in citations_of(answer)] == pairs


def test_long_and_hostile_answers() -> None:
    began = time.monotonic()
    assert len(citations_of("Honey [1-9999].")) == 101
    for text in (
        "[1" * 20_000,
        "[1,1" * 10_000,
        ". [1]" * 5_000,
        "[" * 50_000,
        "." * 50_000,
        ".!" * 20_000,
        ". [1 1 1" * 5_000,
    ):
        citations_of(text)
    assert time.monotonic() - began < 5
