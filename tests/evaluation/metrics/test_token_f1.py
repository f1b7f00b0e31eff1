from __future__ import annotations

import pytest
from metric_examples import answered, metric_of, value_of


def test_words_are_compared_as_in_squad_and_the_best_reference_counts() -> None:
    metric = metric_of("token_f1")
    example = answered("Denver", "the Denver Broncos")
    assert value_of(metric, example, "Denver Broncos.") == 1
    assert value_of(metric, example, "Broncos of Denver, a team") == pytest.approx(2 * 0.5 / 1.5)


def test_case_and_punctuation_count_where_that_is_wanted() -> None:
    metric = metric_of("token_f1", ignore_case=False, ignore_punctuation=False)
    assert value_of(metric, answered("Denver Broncos"), "denver Broncos") == 0.5
    assert value_of(metric, answered("Denver"), "Denver.") == 0
