"""A job for tests of the launcher, without torch or data: torchrun starts `python -m rank_stub WHAT`."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from genai.errors import DataError, StoppedError
from genai.tracking.rank_reports import Reporter, pids

RANK = int(os.environ["RANK"])
FOLDER = Path(os.environ["GENAI_RANK_REPORTS"])


def wait_until(true: Callable[[], bool]) -> None:
    """Look again and again."""
    while not true():
        time.sleep(0.001)


def is_zombie(pid: int) -> bool:
    """Whether a process of torchrun's has ended, looked at by torchrun or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def work(what: str) -> None:
    """What the first word of the command line asks for."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    if what == "fail" and RANK == 1:
        raise DataError("row 7 is broken", where="rows.jsonl:7", fix="mend it")
    if what == "crash" and RANK == 1:
        raise ZeroDivisionError("oh")
    if what in ("die", "die fast") and RANK == 1:
        wait_until(lambda: len(pids(FOLDER)) == 2)
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "die fast":
        # As over a socket: the loss of the other is noticed long before torchrun looks at either.
        wait_until(lambda: len(pids(FOLDER)) == 2)
        other = int((FOLDER / "rank-1.pid").read_text())
        wait_until(lambda: is_zombie(other))
    if what in ("fail", "crash", "die"):
        time.sleep(1)
    if what in ("fail", "crash", "die", "die fast", "lose"):
        raise RuntimeError("[pair.cc:534] Connection closed by peer (gloo)")
    if what == "wait":
        print(f"rank {RANK} waits", file=sys.stderr)
        while not stopped:
            time.sleep(0.02)
        time.sleep(0.5)  # it saves
        raise StoppedError("stopped by SIGTERM after batch 3", signal_number=15, fix="go on")


def main() -> int:
    """One rank."""
    reporter = Reporter.from_environment(os.environ)
    reporter.begin()
    print(f"rank {RANK} prints")
    try:
        work(sys.argv[1])
    except Exception as error:
        code = reporter.fail(error)
        reporter.wait_for_main()
        return code
    if RANK == 0:
        words = {"words": sys.argv[1:], "ranks": os.environ["WORLD_SIZE"], "threads": os.environ["OMP_NUM_THREADS"]}
        reporter.result(words)
    return 0


if __name__ == "__main__":
    sys.exit(main())
