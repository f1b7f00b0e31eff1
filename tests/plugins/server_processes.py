"""Servers that run as processes of their own while a test needs them."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

_STARTS_WITHIN_S = 60.0


@pytest.fixture(scope="session")
def start_process(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., AbstractContextManager[str]]:
    """`with start_process(lambda port, folder: [...]) as url:` runs a server until the block ends.

    Its command gets a free port and an empty folder, which it is started in.
    """

    @contextmanager
    def start(command: Callable[[int, Path], list[str]], *, scheme: str = "http") -> Iterator[str]:
        folder = tmp_path_factory.mktemp("server")
        port = _free_port()
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(command(port, folder), stdout=log, stderr=log, cwd=folder)
        try:
            _wait_until_open(port, process, folder / "log")
            yield f"{scheme}://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()

    return start


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"the server did not start: {log.read_text(errors='replace')[-500:]}")
