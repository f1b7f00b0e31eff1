from __future__ import annotations

from genai.config.findings import fault, no_effect


def test_a_fault_and_a_warning() -> None:
    wrong = fault("data.split", "no", "yes")
    assert (wrong.key, wrong.message, wrong.fix, wrong.is_warning) == (("data", "split"), "no", "yes", False)
    idle = no_effect("seed", "nothing is random")
    assert (idle.key, idle.message, idle.is_warning) == (("seed",), "seed has no effect: nothing is random", True)
