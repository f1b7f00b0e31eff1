import json
import math
import random
import statistics

import pytest

from genai.training.callbacks.base import StopTraining
from genai.training.callbacks.loss_spike import LossSpike


def test_warns_once_for_a_rise_and_names_the_batch(step_info, log_lines):
    callback = LossSpike(window=10, threshold=3.0, action="warn")
    for batch, loss in enumerate([2.0] * 10 + [7.0, 8.0, 2.0, 2.0, 9.0], start=1):
        callback.step_end(step_info(batch, loss=loss))
    warnings = [line for line in log_lines if line.startswith("WARNING")]
    assert len(warnings) == 2
    assert "batch 11: 7.0000 is more than 3 times the median 2.0000" in warnings[0]
    assert "batch 15" in warnings[1]


def test_stops_as_failed(step_info):
    callback = LossSpike(window=10, threshold=3.0, action="stop")
    for batch in range(1, 9):
        callback.step_end(step_info(batch))
    with pytest.raises(StopTraining, match="loss spike at batch 9") as caught:
        callback.step_end(step_info(9, loss=6.1))
    assert caught.value.failed


@pytest.mark.parametrize(
    "losses", [[2.0, 2.0, 9.0], [9.0], [2.0] * 9 + [5.9], [2.0] * 9 + [math.nan, math.inf], [0.01] * 9 + [0.09]]
)
def test_no_alarm(step_info, log_lines, losses):
    callback = LossSpike(window=10, threshold=3.0, action="stop")
    for batch, loss in enumerate(losses, start=1):
        callback.step_end(step_info(batch, loss=loss))
    assert log_lines == []


def test_agrees_with_a_median_computed_anew(step_info):
    random.seed(7)
    losses = [random.choice([1.0, 2.0, 3.0, random.uniform(1, 20)]) for _ in range(300)]
    callback = LossSpike(window=21, threshold=2.0, action="stop")
    for index, loss in enumerate(losses):
        window = losses[max(0, index - 21) : index]
        expected = len(window) >= 5 and loss > 2.0 * statistics.median(window)
        before = callback.state_dict()
        try:
            callback.step_end(step_info(index + 1, loss=loss))
            alarm = callback.state_dict()["in_spike"]
        except StopTraining:
            alarm = True
            callback = LossSpike(window=21, threshold=2.0, action="warn")
            callback.load_state_dict(before)
            callback.step_end(step_info(index + 1, loss=loss))
        assert alarm == expected, index


def test_a_restored_state_decides_the_same(step_info, log_lines):
    losses = [2.0, 2.1, 1.9, 2.0, 2.2, 2.1, 9.0, 9.5, 2.0]
    warned = {}
    for cut in (0, 6, 7):
        first, second = (LossSpike(window=5, threshold=3.0, action="warn") for _ in range(2))
        for index, loss in enumerate(losses):
            if index == cut:
                second.load_state_dict(json.loads(json.dumps(first.state_dict())))
            (first if index < cut else second).step_end(step_info(index + 1, loss=loss))
        warned[cut] = list(log_lines)
        log_lines.clear()
    assert len(warned[0]) == 1
    assert warned[6] == warned[7] == warned[0]
