"""A server that speaks the S3 protocol, as a process of its own, for the tests of every room that stores objects."""

from __future__ import annotations

import os
import secrets
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def start_s3_server(
    start_process: Callable[..., AbstractContextManager[str]],
) -> Callable[..., AbstractContextManager[str]]:
    """Call it as `with start_s3_server() as url:` for a server of one's own; words are passed to `moto_server`."""

    def start(*arguments: str, scheme: str = "http") -> AbstractContextManager[str]:
        def command(port: int, folder: Path) -> list[str]:
            return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port), *arguments]

        return start_process(command, scheme=scheme)

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
