"""How many CPU threads to compute with: in a container fewer than the machine has cores."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch


def usable_threads(root: Path = Path("/"), *, processes: int = 1) -> int:
    """Threads that torch would take (affinity, OMP_NUM_THREADS), but no more than the quota of the cgroup pays.

    Args:
        root: where `proc` and `sys` lie.
        processes: among how many the quota is divided; OMP_NUM_THREADS is that of one process already.

    Source:
        the Linux kernel's documentation, cgroup-v2 `cpu.max` and cgroup-v1 `cpu.cfs_quota_us`.
    """
    return max(1, min([torch.get_num_threads(), *(math.ceil(cores / processes) for cores in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """CPU quotas, in cores, of the process's cgroup and of all above it."""
    file = root / "proc/self/cgroup"
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        # In a container the path may be the host's, of which only the mount's top can be seen.
        folder = mount / path.lstrip("/")
        for place in (folder, *folder.parents):
            yield from _quota(place)
            if place == mount:
                break


def _quota(folder: Path) -> Iterator[float]:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period")
            )
        if quota != "max" and int(quota) > 0:
            yield int(quota) / int(period)
    except (OSError, ValueError):
        return
