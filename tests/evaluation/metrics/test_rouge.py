from __future__ import annotations

import pytest
from metric_examples import answered, metric_of, value_of


@pytest.mark.parametrize(("name", "value"), [("rouge1", 2 / 3), ("rouge2", 2 / 7), ("rougeL", 2 / 3)])
def test_the_best_reference_counts(name: str, value: float) -> None:
    example = answered("nothing like it", "police kill the gunman")
    assert value_of(metric_of(name), example, "The police killed the gunman.") == pytest.approx(value)


def test_a_pattern_finds_the_summary() -> None:
    metric = metric_of("rougeL", pattern=r"(?s)Summary:(.*)")
    assert value_of(metric, answered("all is well"), "Let me think.\nSummary: All is\nwell.") == 1
