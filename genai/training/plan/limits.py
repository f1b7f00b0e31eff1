"""How much memory this process may still take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from genai.training.cgroups import cgroup_folders

_UNLIMITED = 1 << 60
"""cgroup v1 writes a number beyond any machine where there is no limit."""


def available_bytes(device: torch.device) -> int:
    """Free memory of `device`: on a GPU what the driver says, on a CPU the least of the machine's and each cgroup's."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_cpu_bytes()


def available_cpu_bytes(root: Path = Path("/")) -> int:
    """What the kernel would give before it kills: `MemAvailable`, and each cgroup's limit less what is used and
    cannot be dropped.

    Args:
        root: where `proc` and `sys` lie.
    """
    return min(_machine_bytes(root), *_cgroup_bytes(root), _UNLIMITED)


def _machine_bytes(root: Path) -> int:
    for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return _UNLIMITED


def _cgroup_bytes(root: Path) -> Iterator[int]:
    """Free bytes of the process's cgroup and of all above it."""
    for folder in cgroup_folders(root, "memory"):
        if (folder / "memory.max").exists():
            yield from _free(folder, "memory.max", "memory.current")
        else:
            yield from _free(folder, "memory.limit_in_bytes", "memory.usage_in_bytes")


def _free(folder: Path, limit_name: str, usage_name: str) -> Iterator[int]:
    try:
        limit = (folder / limit_name).read_text(encoding="ascii").strip()
        usage = int((folder / usage_name).read_text(encoding="ascii"))
        cache = _inactive_file(folder)
    except (OSError, ValueError):
        return
    if limit != "max" and int(limit) < _UNLIMITED:
        yield max(0, int(limit) - usage + cache)


def _inactive_file(folder: Path) -> int:
    """File cache that the kernel drops before it kills."""
    for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(" ")
        if name in ("total_inactive_file", "inactive_file"):
            return int(value)
    return 0
