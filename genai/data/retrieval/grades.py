"""Which graded pairs are a query and its answer.

A grade above the middle between 0 (or the lowest grade, where one is below 0) and the highest grade is an answer: 1 of
0 and 1, 3 to 5 of 0 to 5, 2 and 3 of the grades 0 to 3. A pair without a grade always is one.
"""

from __future__ import annotations

from collections.abc import Sequence

from genai.data.retrieval.records import Pair


def middle_grade(pairs: Sequence[Pair]) -> float:
    """The grade above which a pair is an answer, at least 0."""
    grades = [pair.score for pair in pairs if pair.score is not None]
    return max(0.0, (min(0.0, *grades) + max(grades)) / 2) if grades else 0.0


def is_answer(pair: Pair, middle: float) -> bool:
    """Whether the passage answers the query.

    Args:
        pair: any.
        middle: `middle_grade` of all pairs that are graded on the same scale.
    """
    return pair.score is None or pair.score > middle


def query_key(query: str) -> str:
    """Queries of equal keys are the same query: case and white space do not count."""
    return " ".join(query.casefold().split())
