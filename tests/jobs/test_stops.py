"""Ends that are not crashes: Ctrl-C, SIGTERM, a run that is held already, a disk that is full."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from genai.tracking.metrics import read_metrics
from genai.tracking.run import RunDirectory

pytestmark = pytest.mark.slow

WAIT_FOR_GO = """
import os, sys, time
def watch(event, arguments):
    if event == "open" and str(arguments[0]).endswith("base.json"):
        while not os.path.exists("go"):
            time.sleep(0.05)
sys.addaudithook(watch)
"""


# --- signals ----------------------------------------------------------------------------------------------------------


def wait_for_steps(job: Any, process: Any, steps: int) -> None:
    deadline = time.monotonic() + 120
    while len(read_metrics(job.run_directory / "metrics.jsonl")) < steps:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "code", "status"), [(signal.SIGTERM, 143, "stopped"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_signal_saves_and_the_same_command_goes_on(
    job: Any, uninterrupted: Any, number: signal.Signals, code: int, status: str
) -> None:
    config = job.write_resumable(save_interval="100ba")
    with job.start("finetune", str(config)) as process:
        wait_for_steps(job, process, 5)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    [error] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert f"stopped by {number.name} after batch" in error
    assert "the same command goes on from there" in error
    assert f"{number.name}: saving a checkpoint, then stopping" in said
    directory = RunDirectory(job.run_directory)
    assert directory.status.status == status
    assert len(os.listdir(directory.checkpoints)) == 1
    job.finish(config)
    assert job.outcome() == uninterrupted()


def test_of_two_at_once_the_second_is_refused(job: Any) -> None:
    config = job.write_resumable(max_duration="4ba")
    with job.start("finetune", str(config), prelude=WAIT_FOR_GO) as first:
        deadline = time.monotonic() + 60
        while not (job.run_directory / "inputs.json").exists():
            assert first.poll() is None and time.monotonic() < deadline, first.communicate()[1]
            time.sleep(0.05)
        second = job.genai("finetune", str(config))
        (job.folder / "go").touch()
        _, said = first.communicate(timeout=120)
    assert first.returncode == 0, said
    assert second.returncode == 1
    [error] = [line for line in second.stderr.splitlines() if line.startswith("error: ")]
    assert f"run 'tiny' is held by process {first.pid} on host {socket.gethostname()}" in error
    assert f"kill {first.pid}, or choose another name with --run-name" in error


# --- a full disk ------------------------------------------------------------------------------------------------------

FULL_FROM_THE_THIRD_CHECKPOINT = """
import errno, os, sys
def fill():
    {fill}
def watch(event, arguments):
    if event == "os.mkdir" and ".ba00000006" in str(arguments[0]):
        fill()
sys.addaudithook(watch)
"""
FILL_A_DISK = """
    with open("small/filler", "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"0" * 4096)
        except OSError as error:
            assert error.errno == errno.ENOSPC
"""
LIMIT_THE_SIZE_OF_FILES = """
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, resource.RLIM_INFINITY))
"""


@pytest.fixture
def small_disk(job: Any) -> Iterator[Path]:
    """A disk of 80 MiB in the folder of the job."""
    folder = job.folder / "small"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", folder], capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mount.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def end_on_a_full_disk(job: Any, config: Path, prelude: str) -> None:
    full = job.genai("finetune", str(config), prelude=prelude)
    assert full.returncode == 1, full.stderr
    [error] = [line for line in full.stderr.splitlines() if line.startswith("error: ")]
    assert "cannot write" in error
    assert "ba00000006" in error
    assert "Traceback" not in full.stderr
    assert "bytes free) (make room" in error


def test_a_full_disk_is_one_line_and_the_earlier_checkpoint_survives(
    job: Any, small_disk: Path, uninterrupted: Any
) -> None:
    config = job.write_resumable(runs_dir=str(small_disk / "runs"))
    end_on_a_full_disk(job, config, FULL_FROM_THE_THIRD_CHECKPOINT.format(fill=FILL_A_DISK.strip()))
    (small_disk / "filler").unlink()
    job.finish(config)
    assert job.outcome(small_disk / "runs" / "tiny") == uninterrupted()


def test_a_limit_on_file_sizes_is_told_like_a_full_disk(job: Any, uninterrupted: Any) -> None:
    config = job.write_resumable()
    end_on_a_full_disk(job, config, FULL_FROM_THE_THIRD_CHECKPOINT.format(fill=LIMIT_THE_SIZE_OF_FILES.strip()))
    job.finish(config)
    assert job.outcome() == uninterrupted()


def test_a_disk_that_will_not_do_is_refused_before_training(job: Any, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(b"0" * (40 << 20))
    refused = job.genai("finetune", str(job.write(runs_dir=str(small_disk / "runs"))))
    assert refused.returncode == 3
    assert "GiB free, but" in refused.stderr
    assert not (small_disk / "runs" / "tiny" / "checkpoints").exists()
