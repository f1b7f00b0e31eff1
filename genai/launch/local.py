"""Runs a job as several ranks on this machine, with torchrun.

The launching process only waits: it forwards Ctrl-C and SIGTERM to the ranks, waits for as long as they save, and tells
the result or the error of the rank that failed first as if it had happened here.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from genai.errors import GenaiError, StoppedError
from genai.storage.atomic import safe_name
from genai.tracking.rank_reports import FOLDER, STORE, first_failure, pids, read_result

# How torchrun tells of a rank that a signal ended.
_KILLED = re.compile(r"^\s*rank\s*: (?P<rank>\d+) \(local_rank: \d+\)\n\s*exitcode\s*: -(?P<signal>\d+) ", re.MULTILINE)
_PR_SET_PDEATHSIG = 1


def launch_local(
    job: str,
    config: Path,
    overrides: Sequence[str] = (),
    *,
    nproc: int,
    run_name: str | None = None,
    flags: Sequence[str] = (),
) -> dict[str, Any]:
    """Run `genai.jobs.<job>` on `nproc` ranks of this machine, to its end.

    Args:
        job: name of a module of `genai.jobs` that can be run with `-m`.
        config: the job file.
        overrides: `KEY=VALUE` texts.
        nproc: how many ranks: one a GPU, or processes that share the CPU.
        run_name: name of the run directory.
        flags: further words for the ranks, such as `--allow-code` or `--quiet`.

    Returns:
        What the job handed back on rank 0, as plain values.

    Raises:
        GenaiError: what the first rank that failed met, with its exit code.
        StoppedError: a signal stopped all ranks, after their state was saved when they were training.
    """
    words = [str(config), *overrides, *flags, *(["--run-name", run_name] if run_name else [])]
    with tempfile.TemporaryDirectory(prefix="genai-ranks-") as scratch:
        folder = Path(scratch)
        with open(folder / "torchrun.log", "wb") as log, _errors_of_ranks() as stderr:
            process = subprocess.Popen(
                _command(safe_name(job), words, nproc, folder),
                env={**os.environ, **_environment(nproc, folder)},
                stdin=stderr,  # see genai.tracking.rank_reports: what the ranks find there, they write to
                stdout=log,
                stderr=log,
                # Ctrl-C in a terminal reaches whole groups; here it is forwarded, once.
                start_new_session=True,
                preexec_fn=_end_with_launcher,
            )
            with _forwarded(process, folder) as received:
                code = process.wait()
        result = read_result(folder)
        if code == 0 and result is not None:
            return result
        raise _error(folder, code, received)


def _command(job: str, words: Sequence[str], nproc: int, folder: Path) -> list[str]:
    # Not --standalone: that opens a store to the whole network, and reads pickles from it.
    meeting = [
        "--rdzv-backend",
        "c10d",
        "--rdzv-conf",
        "store_type=file",
        "--rdzv-endpoint",
        str(folder / "rendezvous"),
    ]
    torchrun = [sys.executable, "-m", "torch.distributed.run", *meeting, "--local-addr", "127.0.0.1"]
    return [*torchrun, "--nproc-per-node", str(nproc), "--module", f"genai.jobs.{job}", *words]


def _environment(nproc: int, folder: Path) -> dict[str, str]:
    values = {
        "PYTHONUNBUFFERED": "1",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        FOLDER: str(folder),
        STORE: str(folder / "store"),
    }
    if "OMP_NUM_THREADS" not in os.environ:
        values["OMP_NUM_THREADS"] = str(max(1, _num_cpus() // nproc))
    return values


def _num_cpus() -> int:
    """CPUs that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


@contextmanager
def _errors_of_ranks() -> Iterator[int]:
    """A descriptor that leads where this process's stderr leads."""
    sys.stderr.flush()
    descriptor = os.dup(2)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _end_with_launcher() -> None:
    """On Linux, have torchrun end its ranks when the launcher is killed. Runs in the new process."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def _forwarded(process: subprocess.Popen[bytes], folder: Path) -> Iterator[list[int]]:
    """Hand SIGINT and SIGTERM on to the ranks themselves, since torchrun would kill them after half a minute.

    Yields:
        The signals that came.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        ranks = pids(folder)
        for pid in ranks or [process.pid]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    previous = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _error(folder: Path, code: int, received: Sequence[int]) -> Exception:
    """Why there is no result: the rank's own words, or what can be told without them."""
    failure = first_failure(folder)
    if failure is not None:
        return failure.error()
    if received:
        name = signal.Signals(received[0]).name
        return StoppedError(f"stopped by {name} before training began", signal_number=received[0])
    said = (folder / "torchrun.log").read_text(errors="replace")
    # Not only the first failure that torchrun observed: it looks now and then, and may find a rank that ended for the
    # loss of another before that other. The first failure comes last in its text.
    killed = [(int(rank), int(number)) for rank, number in _KILLED.findall(said)]
    # SIGTERM is what torchrun itself sends to the others.
    by_others = [(rank, number) for rank, number in killed if number != signal.SIGTERM]
    if by_others:
        return _killed(*by_others[-1])
    lost = first_failure(folder, lost=True)
    if lost is not None:
        return lost.error()
    if killed:
        return _killed(*killed[-1])
    error = RuntimeError(f"torchrun ended with exit code {code}, and no rank said why")
    error.add_note(said)
    return error


def _killed(rank: int, number: int) -> GenaiError:
    name = signal.Signals(number).name
    why = "perhaps the machine ran out of memory; " if number == signal.SIGKILL else ""
    return GenaiError(
        f"rank {rank} was killed by {name}, the others were ended",
        fix=f"{why}the same command goes on from the last checkpoint",
    )
