from __future__ import annotations

import time

from genai.training.callbacks.cpu_clock import CpuClock


def burn(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_it_goes_on_from_where_a_checkpoint_was_taken() -> None:
    first = CpuClock()
    burn(0.02)
    state = first.state_dict()
    burn(0.5)  # thrown away by a kill
    second = CpuClock()
    burn(0.5)  # what a process does before it goes on
    second.load_state_dict(state)
    burn(0.02)
    assert 0.04 <= second.cpu_s < 0.4
