"""Stores to test, disks that are full, processes that die."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from genai.storage import ObjectStore, open_store

REPOSITORY = Path(__file__).resolve().parents[2]


BUCKETS = {"s3": "s3_bucket", "gs": "gcs_bucket", "az": "azure_container"}


@pytest.fixture(params=["local", *(pytest.param(scheme, marks=pytest.mark.integration) for scheme in BUCKETS)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store of each kind."""
    if request.param == "local":
        return open_store(str(tmp_path / "store"))
    return open_store(request.getfixturevalue(BUCKETS[request.param]) + "/some/prefix")


@pytest.fixture(params=list(BUCKETS))
def bucket(request: pytest.FixtureRequest) -> str:
    """The URL of an empty bucket of each kind."""
    return str(request.getfixturevalue(BUCKETS[request.param]))


@pytest.fixture
def file_limit() -> Callable[[int], AbstractContextManager[None]]:
    """`with file_limit(n):` no file can grow beyond n bytes."""

    @contextmanager
    def limited(size_bytes: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a disk needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


class Child(subprocess.Popen[str]):
    """A process that does not outlive its `with` block."""

    def __exit__(self, *error: object) -> None:
        self.kill()
        super().__exit__(*error)  # type: ignore[arg-type]


@pytest.fixture
def start_python() -> Callable[..., subprocess.Popen[str]]:
    """Run Python code in a process of its own: `with start_python(code, *arguments) as process:`."""

    def start(code: str, *arguments: object) -> subprocess.Popen[str]:
        return Child(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )

    return start
