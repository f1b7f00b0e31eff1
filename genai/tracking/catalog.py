"""All runs below a folder: list them, find one by a part of its name, compare two, remove one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genai.errors import GenaiError, UsageError
from genai.registry import suggest
from genai.storage.atomic import is_temporary, remove_directory
from genai.tracking.lock import hold, live_holder
from genai.tracking.loggers.base import flatten
from genai.tracking.metrics import last_values
from genai.tracking.run import RunDirectory

SECTIONS = ("config", "overrides", "environment", "inputs", "result")
"""What two runs are compared in."""


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A line of `genai runs ls`."""

    name: str
    """Name of the run."""
    path: Path
    """Its folder."""
    status: str
    """See `genai.tracking.status`."""
    message: str
    """One line about the status."""
    created_at: str
    """When it began, ISO 8601 in UTC; empty when it never did."""
    updated_at: str
    """When its status last changed."""
    step: int | None
    """Optimizer steps done."""
    metrics: Mapping[str, float]
    """The last value of every metric."""
    size_bytes: int
    """Bytes of all its files."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A key in which two runs differ; None stands for a key that a run does not have."""

    section: str
    """One of `SECTIONS`."""
    key: str
    """Dotted."""
    first: str | None
    """Value in the first run."""
    second: str | None
    """Value in the second run."""


def list_runs(runs_dir: Path) -> list[RunSummary]:
    """All runs in `runs_dir`, oldest first; those that never began come last."""
    summaries = [summarise(RunDirectory(path)) for path in run_folders(runs_dir)]
    return sorted(summaries, key=lambda summary: (not summary.created_at, summary.created_at, summary.name))


def run_folders(runs_dir: Path) -> list[Path]:
    """The folders in `runs_dir` that a run was written into."""
    folders = sorted(runs_dir.iterdir()) if runs_dir.is_dir() else []
    return [path for path in folders if path.is_dir() and not is_temporary(path.name) and _is_run(path)]


def summarise(run: RunDirectory) -> RunSummary:
    """What there is to say about a run in a line."""
    status = run.status
    metrics = last_values(run.metrics_path)
    step = metrics.pop("step", None)
    return RunSummary(
        name=run.name,
        path=run.path,
        status=status.status,
        message=status.message,
        created_at=status.created_at,
        updated_at=status.updated_at,
        step=None if step is None else int(step),
        metrics=metrics,
        size_bytes=size_bytes(run.path),
    )


def find_run(runs_dir: Path, name: str) -> RunDirectory:
    """The run called `name`, or the only one whose name begins so.

    Raises:
        UsageError: there is none, or there are several; the message names what was probably meant.
    """
    names = [path.name for path in run_folders(runs_dir)]
    matching = [name] if name in names else [known for known in names if name and known.startswith(name)]
    if len(matching) == 1:
        return RunDirectory(runs_dir / matching[0])
    if matching:
        raise UsageError(f"'{name}' could be several runs in {runs_dir}", fix=f"one of: {', '.join(matching[:10])}")
    near = suggest(name, names)
    hint = f"did you mean '{near}'?" if near else f"known: {', '.join(names[-10:]) or 'none yet'}"
    raise UsageError(f"there is no run '{name}' in {runs_dir}", fix=hint)


def diff_runs(first: RunDirectory, second: RunDirectory) -> list[Difference]:
    """All keys of `SECTIONS` in which two runs differ."""
    return [
        Difference(section=section, key=key, first=before.get(key), second=after.get(key))
        for section in SECTIONS
        for before, after in [(_section(first, section), _section(second, section))]
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]


def remove_run(run: RunDirectory) -> int:
    """Delete a run with all that is in it; returns the bytes that were freed.

    Raises:
        GenaiError: it is running.
    """
    refuse_if_live(run)
    freed = size_bytes(run.path)
    with hold(run.path / "lock", what=f"run '{run.name}'"):
        remove_directory(run.path)
    return freed


def refuse_if_live(run: RunDirectory) -> None:
    """Raise the error of `remove_run` when the run is held by a process."""
    holder = live_holder(run.path / "lock")
    if holder is not None:
        raise GenaiError(
            f"run '{run.name}' is held by process {holder.pid} on host {holder.host} since {holder.started_at}",
            fix=f"stop it first: kill {holder.pid}",
        )


def size_bytes(path: Path) -> int:
    """Bytes of the file `path`, or of all files below the folder `path`; links count as nothing."""
    return sum(file.lstat().st_size for file in _files(path))


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir() and not path.is_symlink():
        yield from (file for file in path.rglob("*") if file.is_file() and not file.is_symlink())
    elif path.is_file():
        yield path


def _is_run(path: Path) -> bool:
    return (path / "status.json").exists() or (path / "config.yaml").exists()


def _section(run: RunDirectory, section: str) -> dict[str, str]:
    values: Any
    if section == "config":
        import yaml

        values = yaml.safe_load(run.read_config() or "")
    elif section == "overrides":
        values = dict(override.partition("=")[::2] for override in run.read_overrides() or [])
    else:
        path = run.path / f"{section}.json"
        values = json.loads(path.read_bytes()) if path.exists() else None
    return flatten(values) if values else {}
