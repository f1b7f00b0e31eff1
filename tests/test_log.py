"""Progress as lines, for logs."""

import logging

import pytest

from genai.log import LineProgress


def test_a_slow_task_says_how_far_it_is_and_ends_with_a_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="genai"):
        task = LineProgress("training", 4, interval_s=0.0)
        task.update(2, loss="1.80")
        task.update(4, loss="1.60")
        task.close()
        task.close()
    assert caplog.messages == ["training 2/4 loss=1.80", "training 4/4 loss=1.60", "training 4/4 loss=1.60"]


def test_a_quick_task_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="genai"):
        task = LineProgress("saving", None, interval_s=60.0)
        task.update(1)
        task.close()
    assert caplog.messages == []
