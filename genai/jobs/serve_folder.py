"""The folder of a server's processes: its job file, the engine's socket, the metrics; gone when the server ends."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Self

from genai.config.loading import Loaded
from genai.storage.atomic import write_text

_CONFIG, _NEXT, _SOCKET, _METRICS = "config.yaml", "next.yaml", "engine.sock", "metrics"


class ServerFolder:
    """Only its owner can enter it; so whoever can open the socket may use it.

    Args:
        path: where it lies; by default a new folder for temporary files, removed in the end.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._is_own = path is None
        self.path = Path(tempfile.mkdtemp(prefix="genai-serve-")) if path is None else path

    def __enter__(self) -> Self:
        (self.path / _METRICS).mkdir(exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_own:
            shutil.rmtree(self.path, ignore_errors=True)

    @property
    def config(self) -> Path:
        """The job file that is in force: bases and overrides merged, secrets as references."""
        return self.path / _CONFIG

    @property
    def socket(self) -> Path:
        """Where the engine listens."""
        return self.path / _SOCKET

    @property
    def metrics(self) -> Path:
        """Where the processes of prometheus_client put their figures."""
        return self.path / _METRICS

    def write_config(self, loaded: Loaded[Any], *, is_next: bool = False) -> Path:
        """Put a job file down, as the one in force or as one that may become it."""
        path = self.path / (_NEXT if is_next else _CONFIG)
        write_text(path, loaded.dump())
        return path

    def take_next(self) -> None:
        """The next job file is in force."""
        os.replace(self.path / _NEXT, self.config)
