"""The processes that train together: which one this is, and the small things that all of them must agree on.

Numbers and texts that steer the job go through gloo on the CPU, also where gradients go through NCCL: they cost no
synchronisation of the GPU. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore

from genai.errors import UsageError
from genai.tracking.rank_reports import STORE

T = TypeVar("T")
TIMEOUT = timedelta(hours=2)
"""How long a rank waits for the others: rank 0 measures and proves alone. A death is noticed by torchrun at once."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """A process among those that train together; by itself where nothing else is said."""

    rank: int = 0
    """Its number, from 0."""
    world_size: int = 1
    """How many there are."""
    local_rank: int = 0
    """Its number on this machine, which is that of its GPU."""
    local_world_size: int = 1
    """How many there are on this machine."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where it computes."""
    tensor_parallel: int = 1
    """How many neighbours compute each product together; they see the same rows of data."""

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that writes and talks."""
        return self.rank == 0

    @property
    def data_rank(self) -> int:
        """Whose rows of a batch are this rank's: its own, or those of the neighbours it computes with."""
        return self.rank // self.tensor_parallel

    @property
    def data_world_size(self) -> int:
        """Among how many a batch is divided."""
        return self.world_size // self.tensor_parallel

    def sum(self, values: Sequence[float]) -> list[float]:
        """Add up numbers over the rows of all ranks in float64, entry by entry; every rank gets the same bits.

        Neighbours that see the same rows have the same numbers; they count once.
        """
        totals = self._reduce(torch.tensor(values, dtype=torch.float64), dist.ReduceOp.SUM)
        return totals if self.tensor_parallel == 1 else [total / self.tensor_parallel for total in totals]

    def max(self, values: Sequence[int]) -> list[int]:
        """The largest of all ranks, entry by entry."""
        return self._reduce(torch.tensor(values, dtype=torch.int64), dist.ReduceOp.MAX)

    def share(self, make: Callable[[], T]) -> T:
        """What `make` gives on rank 0, on every rank; elsewhere it is not called.

        Args:
            make: gives something that JSON can hold.
        """
        if self.world_size == 1:
            return make()
        text = json.dumps(make()).encode() if self.is_main else b""
        size = torch.tensor([len(text)])
        dist.broadcast(size, src=0)
        content = torch.zeros(int(size), dtype=torch.uint8)
        if self.is_main:
            content = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        dist.broadcast(content, src=0)
        value: T = json.loads(bytes(content.tolist()))
        return value

    def gather(self, vector: torch.Tensor) -> list[torch.Tensor]:
        """The vectors of all ranks, by rank; they are on the CPU and equally long."""
        if self.world_size == 1:
            return [vector]
        found = [torch.empty_like(vector) for _ in range(self.world_size)]
        dist.all_gather(found, vector)
        return found

    def wait(self) -> None:
        """Wait until every rank is here."""
        self.max([0])

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Rank 0 goes through the block first: what it leaves in a cache, the others find there."""
        if not self.is_main:
            self.wait()
        yield
        if self.is_main:
            self.wait()

    def _reduce(self, values: torch.Tensor, operation: Any) -> list[Any]:
        if self.world_size > 1:
            dist.all_reduce(values, op=operation)
        result: list[Any] = values.tolist()
        return result


@contextmanager
def open_ranks(device: str) -> Iterator[Ranks]:
    """Join the ranks that torchrun started; without its environment this process is alone, and no group is made.

    Args:
        device: `auto`, `cpu` or `cuda`.

    Raises:
        UsageError: there are fewer GPUs than ranks.
    """
    try:
        if "RANK" not in os.environ:
            yield Ranks(device=_device(device, local_rank=0, local_world_size=1))
            return
        ranks = ranks_of(os.environ, device)
        if ranks.device.type == "cuda":
            torch.cuda.set_device(ranks.device)
        if ranks.local_world_size == ranks.world_size:
            stay_on_loopback()
        dist.init_process_group(backend_of(ranks.device), timeout=TIMEOUT, **_meeting_place(ranks))
        yield ranks
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def ranks_of(environment: Mapping[str, str], device: str) -> Ranks:
    """The place of this process, from the environment that torchrun sets.

    Raises:
        UsageError: there are fewer GPUs than ranks.
    """
    local_rank = int(environment.get("LOCAL_RANK", "0"))
    local_world_size = int(environment.get("LOCAL_WORLD_SIZE", environment["WORLD_SIZE"]))
    return Ranks(
        rank=int(environment["RANK"]),
        world_size=int(environment["WORLD_SIZE"]),
        local_rank=local_rank,
        local_world_size=local_world_size,
        device=_device(device, local_rank=local_rank, local_world_size=local_world_size),
    )


def backend_of(device: torch.device) -> str:
    """What carries the collectives: gloo for tensors on the CPU, NCCL for those on a GPU."""
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"


def _meeting_place(ranks: Ranks) -> dict[str, Any]:
    """Where the ranks find each other: a private file where a launcher of this machine names one, else torch's TCP
    store at MASTER_ADDR, which listens on all interfaces and trusts everybody.
    """
    path = os.environ.get(STORE)
    if path is None:
        return {}
    store = FileStore(path, ranks.world_size)
    return {"store": store, "rank": ranks.rank, "world_size": ranks.world_size}


def stay_on_loopback() -> None:
    """Let gloo listen on this machine only, unless GLOO_SOCKET_IFNAME says otherwise."""
    names = {name for _, name in socket.if_nameindex()}
    for name in ("lo", "lo0"):
        if name in names:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def _device(device: str, *, local_rank: int, local_world_size: int) -> torch.device:
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if local_world_size == 1:
        return torch.device("cuda")
    count = torch.cuda.device_count()
    if local_world_size > count:
        raise UsageError(
            f"{local_world_size} ranks need as many GPUs, this machine has {count}",
            fix=f"--nproc {count or 1}, or device: cpu",
        )
    return torch.device("cuda", local_rank)
