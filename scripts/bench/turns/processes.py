"""A whole process and what it cost."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def run_python(arguments: Sequence[str], *, cwd: Path, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """One Python process: its CPU time, wall time, peak memory, exit code and what it wrote to stderr."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
        )
        _, status, usage = os.wait4(process.pid, 0)
        errors.seek(0)
        text = errors.read()
    return {
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "wall_s": time.perf_counter() - started,
        "peak_rss_mib": usage.ru_maxrss / 1024,
        "exit_code": os.waitstatus_to_exitcode(status),
        "stderr": text,
    }
