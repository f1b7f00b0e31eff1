import json
import math

import pytest

from genai.training.callbacks.base import StopTraining
from genai.training.callbacks.early_stopping import EarlyStopping


def feed(callback, eval_info, losses):
    """The number of evaluations until it stopped; None when it did not."""
    for index, loss in enumerate(losses, start=1):
        try:
            callback.eval_end(eval_info(loss, batch=10 * index))
        except StopTraining:
            return index
    return None


@pytest.mark.parametrize(
    ("losses", "stops_at"),
    [
        ([3.0, 2.9, 2.8, 2.7], None),
        ([3.0, 3.1, 3.2], 3),
        ([3.0, 3.1, 2.9, 3.0, 3.0], 5),
        ([3.0, 3.0, 3.0], 3),  # equal is no improvement
        ([3.0, math.nan, math.nan], 3),
        ([math.nan, math.nan], 2),
        ([math.inf, 3.0, 3.1, 2.9], None),
    ],
)
def test_stops_after_two_evaluations_without_improvement(eval_info, losses, stops_at):
    assert feed(EarlyStopping(patience=2), eval_info, losses) == stops_at


def test_a_fall_of_less_than_min_delta_is_no_improvement(eval_info):
    losses = [3.0, 2.95, 2.92]
    assert feed(EarlyStopping(patience=2, min_delta=0.1), eval_info, losses) == 3
    assert feed(EarlyStopping(patience=2, min_delta=0.01), eval_info, losses) is None


def test_the_end_is_orderly_and_says_why(eval_info):
    callback = EarlyStopping(patience=1)
    callback.eval_end(eval_info(2.5))
    with pytest.raises(StopTraining, match=r"batch 20: no improvement in 1 .* best loss is 2\.5000") as caught:
        callback.eval_end(eval_info(2.6, batch=20))
    assert not caught.value.failed
    callback.eval_end(eval_info(2.7, batch=20))  # the evaluation that ends the run


def test_a_restored_state_decides_the_same(eval_info):
    losses = [3.0, 2.9, 3.0, 2.95, 2.91, 2.9]
    whole = feed(EarlyStopping(patience=3), eval_info, losses)
    for cut in range(1, len(losses)):
        first, second = EarlyStopping(patience=3), EarlyStopping(patience=3)
        stopped = feed(first, eval_info, losses[:cut])
        if stopped is None:
            second.load_state_dict(json.loads(json.dumps(first.state_dict())))
            second.fit_start(batch=cut)
            rest = feed(second, eval_info, losses[cut:])
            stopped = rest if rest is None else cut + rest
        assert stopped == whole == 5


def test_a_run_killed_after_its_early_stop_stops_again_unless_patience_was_raised(eval_info):
    callback = EarlyStopping(patience=2)
    feed(callback, eval_info, [3.0, 3.1, 3.2])
    same, raised = EarlyStopping(patience=2), EarlyStopping(patience=4)
    for resumed in (same, raised):
        resumed.load_state_dict(callback.state_dict())
    with pytest.raises(StopTraining):
        same.fit_start(batch=30)
    raised.fit_start(batch=30)
