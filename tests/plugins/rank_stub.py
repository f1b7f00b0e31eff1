"""A job for tests of the launcher, without torch or data: torchrun starts `python -m rank_stub WHAT`."""

from __future__ import annotations

import os
import signal
import sys
import time

from genai.errors import DataError, StoppedError
from genai.tracking.rank_reports import Reporter

RANK = int(os.environ["RANK"])


def work(what: str) -> None:
    """What the first word of the command line asks for."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    if what == "fail" and RANK == 1:
        raise DataError("row 7 is broken", where="rows.jsonl:7", fix="mend it")
    if what == "crash" and RANK == 1:
        raise ZeroDivisionError("oh")
    if what == "die" and RANK == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if what in ("fail", "crash", "die"):
        time.sleep(1)
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
