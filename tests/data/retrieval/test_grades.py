"""Which grades are answers."""

from __future__ import annotations

import pytest

from genai.data.retrieval.grades import is_answer, middle_grade, query_key
from genai.data.retrieval.records import Pair


@pytest.mark.parametrize(
    ("grades", "answers"),
    [
        ([0, 1], [1]),
        ([0, 1, 2, 3, 4, 5], [3, 4, 5]),
        ([1, 2, 3], [2, 3]),
        ([1, 1], [1, 1]),
        ([-1, -0.2, 0.3, 1], [0.3, 1]),
        ([-3, -0.5, 1], [1]),
        ([0, 0], []),
        ([None, 0, 1], [None, 1]),
        ([None], [None]),
    ],
)
def test_answers(grades: list[float | None], answers: list[float | None]) -> None:
    pairs = [Pair(query="q", positive="p", score=grade) for grade in grades]
    middle = middle_grade(pairs)
    assert [pair.score for pair in pairs if is_answer(pair, middle)] == answers


def test_case_and_white_space_make_no_other_query() -> None:
    assert query_key(" Who\npays? ") == query_key("who pays?") != query_key("who pays")
