"""The states of all random streams that training draws from, as tensors that safetensors can hold (no pickle)."""

from __future__ import annotations

import torch

RandomState = dict[str, torch.Tensor]
"""`cpu` and, per GPU, `cuda.N`: uint8 vectors in torch's own layout."""


def random_state() -> RandomState:
    """A copy of torch's generators. Nothing in genai draws from Python's or NumPy's global streams."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state.update({f"cuda.{index}": value for index, value in enumerate(torch.cuda.get_rng_state_all())})
    return state


def restore_random_state(state: RandomState) -> None:
    """Set the generators back; streams of GPUs that are not here are left out."""
    torch.set_rng_state(state["cpu"])
    for index in range(torch.cuda.device_count()):
        if f"cuda.{index}" in state:
            torch.cuda.set_rng_state(state[f"cuda.{index}"], index)
