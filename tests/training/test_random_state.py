"""Random streams can be put back where they were, through the file format of a checkpoint."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from genai.training.parallel.ranks import Ranks
from genai.training.random_state import (
    gather_random_states,
    random_state,
    restore_random_state,
    restore_random_states,
    seed_rank,
)


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


def test_ranks_draw_different_numbers_and_the_first_those_of_one_process() -> None:
    drawn = []
    for rank in (0, 1):
        torch.manual_seed(5)
        seed_rank(5, rank)
        drawn.append(torch.rand(1).item())
    torch.manual_seed(5)
    assert drawn[0] == torch.rand(1).item()
    assert drawn[1] != drawn[0]


def test_the_streams_of_many_ranks_go_on_in_one_process() -> None:
    torch.manual_seed(5)
    state = {**gather_random_states(Ranks()), "rank1/cpu": torch.zeros(1, dtype=torch.uint8)}
    expected = torch.rand(1)
    restore_random_states(state, Ranks())
    assert torch.equal(torch.rand(1), expected)


def test_a_rank_that_was_not_there_gets_a_stream_of_its_own_each_time_the_same() -> None:
    state = gather_random_states(Ranks())
    drawn = []
    for rank in (2, 3, 2):
        restore_random_states(state, Ranks(rank=rank, world_size=4))
        drawn.append(torch.rand(1).item())
    assert drawn[0] == drawn[2] != drawn[1]
