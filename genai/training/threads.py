"""How many CPU threads to compute with: in a container fewer than the machine has cores."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch

from genai.training.cgroups import cgroup_folders


def usable_threads(root: Path = Path("/"), *, processes: int = 1) -> int:
    """Threads that torch would take (affinity, OMP_NUM_THREADS), but no more than the quota of the cgroup pays.

    Args:
        root: where `proc` and `sys` lie.
        processes: among how many the quota is divided; OMP_NUM_THREADS is that of one process already.

    Source:
        the Linux kernel's documentation, cgroup-v2 `cpu.max` and cgroup-v1 `cpu.cfs_quota_us`.
    """
    quotas = (cores for folder in cgroup_folders(root, "cpu") for cores in _quota(folder))
    return max(1, min([torch.get_num_threads(), *(math.ceil(cores / processes) for cores in quotas)]))


def _quota(folder: Path) -> Iterator[float]:
    """CPU quota of one cgroup, in cores, where it has one."""
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
