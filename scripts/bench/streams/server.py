"""`genai serve` as a process, for a benchmark."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

_GENAI = "import sys; from genai_cli.main import main; sys.exit(main())"
_READY = re.compile(r"ready after .*http://127\.0\.0\.1:(?P<port>\d+)/v1")


class Server:
    """A server with one model called `chat`, on a free port, with a key as in production; a context manager.

    It is started when it is made and waited for when it is entered, so that several can start side by side.

    Args:
        model: reference of the model.
        engine: section `engine` of the endpoint.
        num_threads: of torch.
    """

    def __init__(self, model: str, engine: dict[str, Any], *, num_threads: int = 1) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bench-engine-")
        job, self._log = Path(self._folder.name) / "serve.yaml", Path(self._folder.name) / "log.txt"
        config = {
            "listen": {"port": 0},
            "num_threads": num_threads,
            "access_log": {"path": str(job.with_name("access.jsonl"))},
            "endpoints": {"chat": {"type": "model", "model": model, "engine": engine}},
        }
        job.write_text(json.dumps(config))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _GENAI, "serve", str(job)], stderr=self._log.open("w"), stdout=subprocess.DEVNULL
        )

    def __enter__(self) -> Self:
        deadline = time.monotonic() + 120
        while not (found := _READY.search(self._log.read_text())):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server did not start:\n{self._log.read_text()[-3000:]}")
            time.sleep(0.05)
        self.port = int(found["port"])
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._folder.cleanup()

    def cpu_s(self) -> float:
        """CPU seconds of all of its processes so far."""
        return sum(_cpu_s(pid) for pid in (self._process.pid, *_children(self._process.pid)))


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(each) for each in text.split()]


def _cpu_s(pid: int) -> float:
    import os

    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
