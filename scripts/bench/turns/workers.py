"""A variant in a process of its own: a script runs itself anew as `SCRIPT --worker ...`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def run_worker(
    script: str,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    python_flags: Sequence[str] = (),
) -> dict[str, Any]:
    """What the worker printed last, one JSON object; a worker that fails ends the benchmark.

    Args:
        script: the benchmark's own file.
        arguments: what follows `--worker`.
        environment: beside this process's own.
        python_flags: of the interpreter.
    """
    command = [sys.executable, *python_flags, script, "--worker", *arguments]
    done = subprocess.run(command, env={**os.environ, **(environment or {})}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{arguments[0]} failed:\n{done.stderr[-3000:]}")
    values: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return values


def run_training_worker(
    script: str, name: str, steps: int, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """A worker that trains for some steps on one thread."""
    with tempfile.TemporaryDirectory() as cache:
        # A cache of its own and no pool of compilers, so that what compiling takes is measured.
        compiling = {"TORCHINDUCTOR_CACHE_DIR": cache, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        common = {**ONE_THREAD, "HF_HUB_OFFLINE": "1", **compiling}
        return run_worker(script, [name, "--steps", str(steps)], environment={**common, **(environment or {})})
