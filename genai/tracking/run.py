"""The run directory: everything one job is given, does and leaves behind, in one folder.

runs/<name>/
    config.yaml        the merged config, unresolved: secrets are references
    overrides.txt      overrides of the command line, one a line
    environment.json   versions and hardware, an allow-list
    inputs.json        fingerprint of every input
    status.json        how it stands, with a heartbeat
    metrics.jsonl      one object a line
    run.log            what the job said
    result.json        what came out
    checkpoints/       states to go on from
    model/  adapter/   what was trained
    report.html        something to look at
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genai.storage.atomic import safe_name, write_json, write_text
from genai.tracking.lock import hold
from genai.tracking.metrics import plain
from genai.tracking.status import RunStatus, Status, heartbeat, read_status, write_status


class RunDirectory:
    """The folder of one run. Reading methods return None for what was not written yet.

    Args:
        path: an existing folder; `open` makes one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, runs_dir: str | Path, name: str) -> RunDirectory:
        """The run `name` below `runs_dir`, made where absent.

        Raises:
            UsageError: `name` cannot be a folder's name.
        """
        path = Path(runs_dir) / safe_name(name)
        path.mkdir(parents=True, exist_ok=True)
        return cls(path)

    @property
    def name(self) -> str:
        """The run's name, which is its folder's."""
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints, unless the config's save_folder takes its place."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """Folder of the exported model."""
        return self.path / "model"

    @property
    def adapter(self) -> Path:
        """Folder of the exported adapter."""
        return self.path / "adapter"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    @property
    def metrics_path(self) -> Path:
        """The metrics, see `genai.tracking.metrics`."""
        return self.path / "metrics.jsonl"

    @property
    def log_path(self) -> Path:
        """What the job said, as text."""
        return self.path / "run.log"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only one to write into this run, and keep its heartbeat going, until the block is left.

        Raises:
            GenaiError: another process holds the run; the message names its host and pid.
        """
        with hold(self.path / "lock", what=f"run '{self.name}'"), heartbeat(self.path):
            yield

    @contextmanager
    def log_to_file(self) -> Iterator[None]:
        """Append what genai logs to run.log as well, with the time, until the block is left."""
        handler = logging.FileHandler(self.log_path, encoding="utf-8", errors="replace")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        root = logging.getLogger("genai")
        root.addHandler(handler)
        try:
            yield
        finally:
            root.removeHandler(handler)
            handler.close()

    def set_status(self, status: Status, message: str = "") -> None:
        """Record how the run stands, with one line about it."""
        write_status(self.path, status, message)

    @property
    def status(self) -> RunStatus:
        """How the run stands; one whose process is gone reads as died."""
        return read_status(self.path)

    def write_config(self, text: str) -> None:
        """Save the merged, unresolved config as YAML text."""
        write_text(self.path / "config.yaml", text)

    def read_config(self) -> str | None:
        """The saved config's YAML text."""
        return self._read("config.yaml")

    def write_overrides(self, overrides: Sequence[str]) -> None:
        """Save the overrides of the command line."""
        write_text(self.path / "overrides.txt", "".join(f"{override}\n" for override in overrides))

    def read_overrides(self) -> list[str] | None:
        """The saved overrides."""
        text = self._read("overrides.txt")
        return None if text is None else text.splitlines()

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Save what the job runs on, see `genai.tracking.environment.collect_environment`."""
        write_json(self.path / "environment.json", plain(environment))

    def read_environment(self) -> dict[str, Any] | None:
        """What the job ran on."""
        return self._read_json("environment.json")

    def write_inputs(self, inputs: Mapping[str, Any]) -> None:
        """Save the fingerprint of every input."""
        write_json(self.path / "inputs.json", plain(inputs))

    def read_inputs(self) -> dict[str, Any] | None:
        """The fingerprint of every input."""
        return self._read_json("inputs.json")

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Save what came out."""
        write_json(self.path / "result.json", plain(result))

    def read_result(self) -> dict[str, Any] | None:
        """What came out."""
        return self._read_json("result.json")

    def _read(self, name: str) -> str | None:
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def _read_json(self, name: str) -> dict[str, Any] | None:
        text = self._read(name)
        return None if text is None else json.loads(text)
