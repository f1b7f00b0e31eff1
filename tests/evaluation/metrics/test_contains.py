from __future__ import annotations

import pytest
from metric_examples import answered, metric_of, value_of


@pytest.mark.parametrize(
    ("reference", "answer", "found"),
    [
        ("Paris", "It is PARIS, of course.", 1),
        ("cat", "One category of cat.", 1),
        ("cat", "One category.", 0),
        ("cat", "concat", 0),
        ("3", "13", 0),
        ("3.5", "It is 3.5!", 1),
        ("(b)", "Answer(b)", 1),
        ("", "anything", 0),
        ("New\nYork", "in new york", 1),
    ],
)
def test_a_reference_stands_in_an_answer_as_whole_words(reference: str, answer: str, found: int) -> None:
    assert value_of(metric_of("contains"), answered(reference), answer) == found


def test_parts_of_words_count_where_words_are_not_divided() -> None:
    assert value_of(metric_of("contains"), answered("京都"), "我在京都大学") == 0
    assert value_of(metric_of("contains", kwargs={"whole_words": False}), answered("京都"), "我在京都大学") == 1


def test_any_reference_is_enough_and_case_can_count() -> None:
    metric = metric_of("contains", ignore_case=False)
    assert value_of(metric, answered("Rome", "Paris"), "Paris!") == 1
    assert value_of(metric, answered("paris"), "Paris!") == 0
