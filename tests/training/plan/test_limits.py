"""Limits of cgroups, old and new, read from files like the kernel's."""

from __future__ import annotations

from pathlib import Path

import torch

from genai.training.plan.limits import available_bytes, available_cpu_bytes

MIB = 1 << 20


def machine(root: Path, *, available_mib: int, cgroup: str, files: dict[str, str]) -> Path:
    for name, text in {
        "proc/meminfo": f"MemTotal: 1 kB\nMemAvailable:  {available_mib * 1024} kB\n",
        "proc/self/cgroup": cgroup,
        **files,
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    return root


def version_2(folder: str, limit: str, used_mib: int, cache_mib: int = 0) -> dict[str, str]:
    return {
        f"{folder}/memory.max": f"{limit}\n",
        f"{folder}/memory.current": f"{used_mib * MIB}\n",
        f"{folder}/memory.stat": f"anon 5\ninactive_file {cache_mib * MIB}\nactive_file 7\n",
    }


def test_a_machine_without_limits(tmp_path: Path) -> None:
    root = machine(tmp_path, available_mib=700, cgroup="", files={})
    assert available_cpu_bytes(root) == 700 * MIB


def test_version_2_takes_the_tightest_group_and_counts_droppable_cache_as_free(tmp_path: Path) -> None:
    files = {
        **version_2("sys/fs/cgroup/a/b", "max", 100),
        **version_2("sys/fs/cgroup/a", str(400 * MIB), 150, cache_mib=50),
    }
    root = machine(tmp_path, available_mib=700, cgroup="0::/a/b\n", files=files)
    assert available_cpu_bytes(root) == 300 * MIB


def test_a_container_sees_only_the_top_of_the_mount(tmp_path: Path) -> None:
    files = version_2("sys/fs/cgroup", str(256 * MIB), 56)
    root = machine(tmp_path, available_mib=700, cgroup="0::/host/path/of/the/container\n", files=files)
    assert available_cpu_bytes(root) == 200 * MIB


def test_version_1(tmp_path: Path) -> None:
    folder = "sys/fs/cgroup/memory/job"
    files = {
        f"{folder}/memory.limit_in_bytes": str(512 * MIB),
        f"{folder}/memory.usage_in_bytes": str(200 * MIB),
        f"{folder}/memory.stat": f"cache 1\ntotal_inactive_file {12 * MIB}\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "5",
        "sys/fs/cgroup/memory/memory.stat": "",
    }
    root = machine(tmp_path, available_mib=700, cgroup="3:cpu,cpuacct:/job\n2:memory:/job\n", files=files)
    assert available_cpu_bytes(root) == 324 * MIB


def test_a_group_that_is_full_has_nothing_left(tmp_path: Path) -> None:
    root = machine(tmp_path, available_mib=700, cgroup="0::/\n", files=version_2("sys/fs/cgroup", str(100 * MIB), 120))
    assert available_cpu_bytes(root) == 0


def test_this_machine_has_memory() -> None:
    assert available_bytes(torch.device("cpu")) > 64 * MIB
