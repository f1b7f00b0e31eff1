"""What holds for every test: no network, no credentials, no telemetry, few threads, a cache of its own."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

# The same examples on every machine: a new one that fails belongs to a fuzzing run, not to somebody else's change.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")

pytest_plugins = ["bucket_servers", "s3_server", "server_processes"]

REPOSITORY = Path(__file__).resolve().parents[1]
TEST_CACHE = Path(os.environ.get("GENAI_TEST_CACHE") or REPOSITORY / ".cache" / "tests")
"""Kept between runs: what the gallery pulls is pulled once."""

SECONDS_OF_A_SLOW_TEST = 1800

ENVIRONMENT = {
    "GENAI_CACHE": str(TEST_CACHE / "genai"),
    "HF_HOME": str(TEST_CACHE / "huggingface"),
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_MODE": "offline",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
}
FOREIGN = ("HF_TOKEN", "WANDB_API_KEY", "MLFLOW_TRACKING_URI", "GENAI_OFFLINE", "NO_COLOR", "FORCE_COLOR")


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment before any test module (and with it torch or transformers) is imported."""
    os.environ.update(ENVIRONMENT)
    for name in [name for name in os.environ if name in FOREIGN or name.startswith("AWS_")]:
        del os.environ[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A slow test gets a longer deadline, unless it names one."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SECONDS_OF_A_SLOW_TEST))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run; on CI a program that is missing is a failure."""
    for marker in item.iter_markers("needs"):
        for program in marker.args:
            if shutil.which(program) is None:
                reason = f"needs {program}: `make test-deps` installs it"
                (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make captured output fit to be sent: xdist ends the whole run over half a surrogate pair."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "replace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(autouse=True, scope="session")
def _only_this_machine() -> Iterator[None]:
    """Refuse connections to other machines; the few tests that pull a package do so in a pip process."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and not _is_loopback(str(address[0])):
            raise OSError(f"a test must not connect to {address[0]}")
        connect(self, address)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
