"""Proof that the disk holds what the run will write."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genai.errors import Problem
from genai.storage.atomic import free_bytes
from genai.training.proofs.result import ProofResult, refuted


@dataclass(frozen=True, kw_only=True)
class DiskNeed:
    """Something that will be written."""

    what: str
    """As the error names it: `3 checkpoints`, `the exported model`."""
    path: Path
    """Where to; need not exist yet."""
    size_bytes: int
    """How much room it takes at its most, the temporary copies of atomic writes included."""


def prove_disk(needs: Sequence[DiskNeed], *, reserve_bytes: int = 64 << 20) -> ProofResult:
    """Compare the free room of each disk with all that will go there.

    Args:
        needs: what will be written; paths on the same disk are added up.
        reserve_bytes: room to leave for logs, metrics and the report.

    Raises:
        GateError: a disk has too little room.
    """
    started = time.perf_counter()
    by_disk: dict[int, list[DiskNeed]] = defaultdict(list)
    for need in needs:
        by_disk[_disk(need.path)].append(need)
    problems, details = [], []
    for on_disk in by_disk.values():
        needed = sum(need.size_bytes for need in on_disk)
        free = free_bytes(on_disk[0].path)
        listed = " and ".join(f"{need.what} ({_gib(need.size_bytes)})" for need in on_disk)
        details.append(f"{listed}: {_gib(free)} free")
        if needed + reserve_bytes > free:
            problems.append(
                Problem(
                    message=f"the disk has {_gib(free)} free, but {listed} will need {_gib(needed + reserve_bytes)}",
                    where=str(on_disk[0].path),
                    fix="make room (genai runs gc, genai cache gc), lower save_num_checkpoints_to_keep, "
                    "or set save_folder to another disk",
                )
            )
    if problems:
        raise refuted(problems)
    needed_bytes = sum(need.size_bytes for need in needs)
    return ProofResult(
        name="disk",
        seconds=time.perf_counter() - started,
        details=tuple(details),
        numbers={"needed_bytes": needed_bytes},
    )


def _disk(path: Path) -> int:
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    return os.stat(existing).st_dev


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.2f} GiB"
