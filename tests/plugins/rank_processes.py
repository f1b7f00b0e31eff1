"""Finds the processes of the ranks that `--nproc` starts, by what /proc says."""

from __future__ import annotations

from pathlib import Path


def pid_of_rank(rank: int, launcher: int) -> int:
    """A rank's process, found among the children of torchrun, the launcher's only child."""
    (torchrun,) = children(launcher)
    for pid in children(torchrun):
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if f"RANK={rank}".encode() in environment:
            return pid
    raise AssertionError(f"there is no rank {rank}")


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
