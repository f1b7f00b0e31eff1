"""A server that speaks the S3 protocol, as a process of its own, for the tests of every room that stores objects."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

_STARTS_WITHIN_S = 60.0


@pytest.fixture(scope="session")
def start_s3_server(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., AbstractContextManager[str]]:
    """Call it as `with start_s3_server() as url:` for a server of one's own; words are passed to `moto_server`."""

    @contextmanager
    def start(*arguments: str, scheme: str = "http") -> Iterator[str]:
        port = _free_port()
        log = tmp_path_factory.mktemp("s3") / "server.log"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port), *arguments]
        with open(log, "wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
            try:
                _wait_until_open(port, process, log)
                yield f"{scheme}://127.0.0.1:{port}"
            finally:
                process.terminate()

    return start


@pytest.fixture(scope="session")
def s3_server(start_s3_server: Callable[..., AbstractContextManager[str]]) -> Iterator[str]:
    """The URL of a server that lives as long as the test run."""
    with start_s3_server() as url:
        yield url


@pytest.fixture
def s3_environment(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """AWS settings in the environment that lead to the server, none of the machine's own; gives the server's URL."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    settings = {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def s3_bucket(s3_environment: str) -> str:
    """The `s3://` URL of an empty bucket, ready to be opened."""
    name = f"genai-{secrets.token_hex(6)}"
    request = urllib.request.Request(f"{s3_environment}/{name}", method="PUT")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(request, timeout=30).close()
    return f"s3://{name}"


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
    raise RuntimeError(f"the S3 server did not start: {log.read_text()[-500:]}")
