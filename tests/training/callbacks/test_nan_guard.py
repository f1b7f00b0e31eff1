import json
import math

import pytest

from genai.training.callbacks.base import StopTraining
from genai.training.callbacks.nan_guard import NaNGuard


@pytest.mark.parametrize(
    ("loss", "grad_norm"), [(math.nan, 1.0), (math.inf, 1.0), (2.0, math.nan), (2.0, math.inf), (-math.inf, math.nan)]
)
def test_a_step_that_is_not_finite_is_skipped_and_named(step_info, log_lines, loss, grad_norm):
    guard = NaNGuard(max_skipped=1)
    assert guard.before_step(2.0, 1.0, batch=6, row_ids=[(1,)])
    assert not guard.before_step(loss, grad_norm, batch=7, row_ids=[(11,), (42, 7)])
    (line,) = log_lines
    assert line.startswith("WARNING") and "batch 7" in line and "rows 11, 42, 7" in line
    assert guard.step_end(step_info(7)) == {"nan_guard/skipped_steps": 1.0}


def test_stops_only_above_max_skipped_in_a_row():
    guard = NaNGuard(max_skipped=2)
    for finite in [False, False, True, False, False]:
        guard.before_step(2.0 if finite else math.nan, 1.0, batch=1, row_ids=[(1,)])
    with pytest.raises(StopTraining, match=r"rows 5, 6\): not finite for 3 steps in a row") as caught:
        guard.before_step(math.nan, 1.0, batch=6, row_ids=[(5,), (6,)])
    assert caught.value.failed


def test_zero_allowed_stops_at_once():
    with pytest.raises(StopTraining):
        NaNGuard(max_skipped=0).before_step(math.nan, 1.0, batch=1, row_ids=[(1,)])


def test_many_rows_are_cut_short(log_lines):
    NaNGuard(max_skipped=1).before_step(math.nan, 1.0, batch=1, row_ids=[range(50), range(50, 100)])
    assert "6, 7 and 92 more" in log_lines[0]


def test_silent_while_all_is_well(step_info, log_lines):
    guard = NaNGuard(max_skipped=1)
    assert guard.before_step(2.0, 1.0, batch=1, row_ids=[(1,)])
    assert guard.step_end(step_info()) == {}
    assert log_lines == []


def test_a_restored_state_counts_on():
    first, second = NaNGuard(max_skipped=2), NaNGuard(max_skipped=2)
    for batch in (1, 2):
        first.before_step(math.nan, 1.0, batch=batch, row_ids=[(1,)])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    with pytest.raises(StopTraining):
        second.before_step(math.nan, 1.0, batch=3, row_ids=[(1,)])


def test_rows_are_named_as_the_user_knows_them(log_lines):
    guard = NaNGuard(max_skipped=1, name_row=lambda index: f"faq.jsonl:{index + 1}")
    guard.before_step(math.nan, 1.0, batch=1, row_ids=[(3, 9)])
    assert "(rows faq.jsonl:4, faq.jsonl:10)" in log_lines[0]
