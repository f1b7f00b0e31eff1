from __future__ import annotations

import numpy as np
import pytest
from metric_examples import answered, chosen_among, figure_of, likelihoods, metric_of, reason_of, score_of, value_of

from genai.evaluation.records import Score

CHOICES = ("Ja", "naturlich, und zwar sehr gern", "über")


@pytest.mark.parametrize(("name", "lengths"), [("acc", [1, 1, 1]), ("acc_norm", [2, 29, 4]), ("acc_bytes", [2, 29, 5])])
@pytest.mark.parametrize("logprobs", [(-2.0, -20.0, -4.5), (-4.0, -20.0, -9.0), (-1.0, -1.0, -1.0), (-9.0, -8.0, -7.0)])
def test_the_likeliest_choice_is_that_of_lm_eval(
    name: str, lengths: list[int], logprobs: tuple[float, float, float]
) -> None:
    right = int(np.argmax(np.array(logprobs) / lengths))  # as in lm_eval.api.task: lls / completion_len
    for gold in range(3):
        score = score_of(metric_of(name, "multiple_choice"), chosen_among(*CHOICES, gold=gold), likelihoods(*logprobs))
        assert isinstance(score, Score)
        assert score.value == float(gold == right)
        assert score.details["chosen"] == right


def test_contexts_of_a_schema_are_chosen_among_too() -> None:
    example = chosen_among("same", "same", gold=1, kind="schema")
    assert value_of(metric_of("acc", "schema"), example, likelihoods(-3.0, -2.0)) == 1


def test_the_figure_is_the_share_of_right_choices() -> None:
    metric = metric_of("acc", "multiple_choice")
    scores = [score_of(metric, chosen_among("a", "b", gold=gold), likelihoods(-1, -2)) for gold in (0, 1, 0, 0)]
    assert figure_of(metric, scores) == 0.75


def test_what_has_no_choices_is_not_scored() -> None:
    metric = metric_of("acc", "multiple_choice")
    assert "this is an answer" in reason_of(metric, chosen_among("a", "b", gold=0), "a")
    assert (
        reason_of(metric, chosen_among("a", "b", gold=None), likelihoods(-1))
        == "the row has no choices with a right one"
    )
    assert reason_of(metric, answered("a"), likelihoods(-1)) == "the row has no choices with a right one"
    assert reason_of(metric, chosen_among("a", "b", gold=0), likelihoods(-1)) == "1 likelihoods for 2 choices"
    assert reason_of(metric, chosen_among("a", "b", gold=0), likelihoods()) == "there is no likelihood"
