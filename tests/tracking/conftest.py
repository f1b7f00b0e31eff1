"""Processes that hold, and die with, a run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from genai.tracking.run import RunDirectory

HOLD = """
import sys, time
from genai.tracking.run import RunDirectory
run = RunDirectory.open(sys.argv[1], sys.argv[2])
with run.lock():
    run.set_status("running", "batch 7")
    print("held", flush=True)
    {inside}
    time.sleep(600)
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def hold_elsewhere() -> Iterator[Start]:
    """Start a process that holds a run; `inside` is run while it does."""
    started: list[subprocess.Popen[str]] = []

    def start(runs_dir: Path, name: str, inside: str = "") -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD.format(inside=inside), str(runs_dir), name]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """An empty run."""
    return RunDirectory.open(tmp_path / "runs", "faq")
