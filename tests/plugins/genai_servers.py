"""`genai serve` as a process, and questions to it over real HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

_READY = re.compile(r"ready after .*: (?P<url>http://\S+)/v1 answers")
_ADMIN = re.compile(r"operator's port: (?P<url>http://\S+)")
_CODE = "import sys\nfrom genai_cli.main import main\nsys.exit(main())"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: Any
    headers: Mapping[str, str]


class GenaiServer:
    """A server that runs.

    Args:
        folder: where it runs, and where its log lies.
        words: after `genai serve`.
        env: beside this process's own.
        prelude: Python that runs in the first process before it begins.
    """

    def __init__(self, folder: Path, *words: str, env: Mapping[str, str] | None = None, prelude: str = "") -> None:
        self._log = folder / "serve.log"
        with self._log.open("w") as log:
            self.process = self._start(folder, words, env or {}, prelude, log)

    def _start(
        self, folder: Path, words: Sequence[str], env: Mapping[str, str], prelude: str, log: IO[str]
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", f"{prelude}\n{_CODE}", "serve", *words],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", **env},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )

    @property
    def said(self) -> str:
        """Its standard error so far."""
        return self._log.read_text()

    @property
    def url(self) -> str:
        """Where it answers, once it is ready."""
        found = self.until(lambda: _READY.search(self.said), "it is ready")
        return str(found["url"])

    @property
    def admin_url(self) -> str:
        """Where the operator is answered."""
        found = self.until(lambda: _ADMIN.search(self.said), "the operator's port is told")
        return str(found["url"])

    def until(self, check: Callable[[], Any], what: str, timeout_s: float = 120) -> Any:
        """Wait for something; fails when the server ends before."""
        deadline = time.monotonic() + timeout_s
        while not (found := check()):
            assert self.process.poll() is None, f"it has ended before {what}:\n{self.said}"
            assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}\n{self.said}"
            time.sleep(0.05)
        return found

    def ask(
        self,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        admin: bool = False,
        timeout_s: float = 60,
    ) -> Answer:
        """POST where there is a body, else GET."""
        data = None if body is None else json.dumps(body).encode()
        told = {"content-type": "application/json", **(headers or {})}
        if key is not None:
            told["authorization"] = f"Bearer {key}"
        request = urllib.request.Request((self.admin_url if admin else self.url) + path, data=data, headers=told)
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as response:
                return Answer(response.status, _read(response.read()), dict(response.headers))
        except urllib.error.HTTPError as error:
            return Answer(error.code, _read(error.read()), dict(error.headers))

    def complete(self, prompt: Any = "what is a brick ?", **parameters: Any) -> Answer:
        """A completion by the model `chat`."""
        return self.ask("/v1/completions", {"model": "chat", "prompt": prompt, "temperature": 0, **parameters})

    def children(self) -> dict[str, psutil.Process]:
        """Its processes by the name of their module."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                module = next((word for word in child.cmdline() if word.startswith("genai.jobs.")), None)
                if module is not None:
                    found[module.rpartition(".")[2]] = child
        return found

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 60) -> int:
        """Send a signal and wait for the end; gives the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)


def _read(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode()


@contextlib.contextmanager
def serving(folder: Path, *words: str, **options: Any) -> Iterator[GenaiServer]:
    """A server for as long as the block lasts; none of its processes is left behind."""
    server = GenaiServer(folder, *words, **options)
    children: list[psutil.Process] = []
    try:
        yield server
    finally:
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(server.process.pid).children(recursive=True)
        server.process.kill()
        server.process.wait()
        if server.process.stdout is not None:
            server.process.stdout.close()
        _, alive = psutil.wait_procs(children, timeout=10)
        for child in alive:
            child.kill()
        assert not alive, f"left behind: {[child.cmdline() for child in alive]}"


def write_config(folder: Path, **sections: Any) -> Path:
    """A job file `serve.yaml` that serves the model in `folder/model` as `chat` on a free port."""
    config = {
        "listen": {"port": 0},
        "num_threads": 1,
        "endpoints": {"chat": {"type": "model", "model": "./model", "engine": {"precision": "fp32"}}},
        **sections,
    }
    path = folder / "serve.yaml"
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
    return path
