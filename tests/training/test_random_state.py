"""Random streams can be put back where they were, through the file format of a checkpoint."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from genai.training.random_state import random_state, restore_random_state


def test_a_stream_goes_on_from_where_it_was(tmp_path: Path) -> None:
    torch.manual_seed(5)
    torch.rand(3)
    save_file(random_state(), tmp_path / "random.safetensors")
    expected = torch.rand(4)
    torch.manual_seed(6)
    restore_random_state(load_file(tmp_path / "random.safetensors"))
    assert torch.equal(torch.rand(4), expected)


def test_the_state_is_a_copy() -> None:
    state = random_state()
    before = state["cpu"].clone()
    torch.rand(1)
    assert torch.equal(state["cpu"], before)


def test_streams_of_devices_that_are_not_here_are_left_out() -> None:
    state = random_state()
    restore_random_state({**state, "cuda.7": torch.zeros(16, dtype=torch.uint8)})
    assert torch.equal(random_state()["cpu"], state["cpu"])
