"""The states of all random streams that training draws from, as tensors that safetensors can hold (no pickle)."""

from __future__ import annotations

import hashlib

import torch

from genai.training.parallel.ranks import Ranks

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


def seed_rank(seed: int, rank: int) -> None:
    """Give each rank dropout masks of its own; rank 0 draws what a single process draws. Call it when every rank has
    built the same model.
    """
    if rank:
        torch.manual_seed(seed + rank)


def gather_random_states(ranks: Ranks) -> RandomState:
    """The generators of all ranks: those of rank 0 under the names of `random_state`, the others' behind `rankN/`.

    All ranks must call it.
    """
    if ranks.world_size == 1:
        return random_state()
    own = {"cpu": torch.get_rng_state()}
    if ranks.device.type == "cuda":
        # A rank has one GPU, whatever its number on the machine.
        own["cuda.0"] = torch.cuda.get_rng_state(ranks.device)
    vectors = ranks.gather(torch.cat(list(own.values())))
    sizes = [len(value) for value in own.values()]
    return {
        _name_of(rank, name): part.clone()
        for rank, vector in enumerate(vectors)
        for name, part in zip(own, vector.split(sizes), strict=True)
    }


def restore_random_states(state: RandomState, ranks: Ranks) -> None:
    """Set this rank's generators back to what `gather_random_states` gave, on any number of ranks.

    A rank that was not there then gets a stream that follows from rank 0's.
    """
    if _name_of(ranks.rank, "cpu") not in state:
        digest = hashlib.sha256(bytes(state["cpu"].tolist()) + str(ranks.rank).encode()).digest()
        torch.manual_seed(int.from_bytes(digest[:7], "big"))
        return
    if ranks.world_size == 1:
        restore_random_state({name: value for name, value in state.items() if "/" not in name})
        return
    torch.set_rng_state(state[_name_of(ranks.rank, "cpu")])
    if ranks.device.type == "cuda" and _name_of(ranks.rank, "cuda.0") in state:
        torch.cuda.set_rng_state(state[_name_of(ranks.rank, "cuda.0")], ranks.device)


def _name_of(rank: int, name: str) -> str:
    return f"rank{rank}/{name}" if rank else name
