"""What a job runs on, as an allow-list: nothing gets in that is not named here, above all no environment variable."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import genai

PACKAGES = (
    "accelerate",
    "adlfs",
    "bitsandbytes",
    "boto3",
    "click",
    "datasets",
    "deltalake",
    "gcsfs",
    "lancedb",
    "mlflow",
    "mlflow-skinny",
    "numpy",
    "omegaconf",
    "onnxruntime",
    "peft",
    "pyarrow",
    "pydantic",
    "pypdfium2",
    "qdrant-client",
    "qdrant-edge-py",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
)
"""Distributions whose version can change what a job does."""

_GIT_DEADLINE_S = 5


def collect_environment(folder: Path | None = None) -> dict[str, Any]:
    """What the present process runs on.

    Args:
        folder: whose git revision is recorded, by default the working directory.

    Returns:
        JSON-able: genai, python, platform, cpu, num_cores (those this process may use), memory_bytes,
        memory_limit_bytes (the cgroup's, None where there is none), gpus (empty unless torch is already imported),
        packages (name to version), git.
    """
    return {
        "genai": genai.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "num_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "memory_limit_bytes": cgroup_memory_limit(),
        "gpus": _gpus(),
        "packages": package_versions(PACKAGES),
        "git": git_state(folder or Path.cwd()),
    }


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """The versions of those of `names` that are installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def cpu_model() -> str:
    """The processor's name, as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cgroup_memory_limit(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The most memory this container may use, in bytes; None where there is no limit.

    Source: the Linux kernel's documentation, cgroup-v2 `memory.max` and cgroup-v1 `memory.limit_in_bytes`.
    """
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        path = root / name
        if path.exists():
            text = path.read_text(encoding="ascii").strip()
            limit = int(text) if text.isdigit() else None
            return limit if limit is not None and limit < 1 << 60 else None
    return None


def git_state(folder: Path) -> Mapping[str, Any] | None:
    """Revision of the git work tree that `folder` lies in, and whether it is dirty; None where there is none."""
    revision = _git(folder, "rev-parse", "HEAD")
    if revision is None:
        return None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"revision": revision, "dirty": None if changes is None else bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_DEADLINE_S)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _gpus() -> list[str]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
