"""What can be deleted from a folder of runs: leftovers of killed processes, spare checkpoints, failed runs.

Runs that are held by a living process are passed over. A run that is not finished keeps all its checkpoints, for the
newest may turn out to be damaged when it goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from genai.storage.atomic import is_temporary, remove_directory, sweep
from genai.tracking.catalog import run_folders, size_bytes
from genai.tracking.lock import hold, live_holder
from genai.tracking.run import RunDirectory
from genai.tracking.status import RunStatus, read_status

_DAY_S = 86400.0
_ENDED_BADLY = ("failed", "died", "new")


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """One file or folder to delete."""

    path: Path
    """What is deleted."""
    reason: str
    """Why it can be."""
    size_bytes: int
    """What it takes up."""


def collect_garbage(
    runs_dir: Path, *, failed_older_than_s: float | None = None, dry_run: bool = False
) -> list[Garbage]:
    """Delete what is left over in `runs_dir`.

    Args:
        runs_dir: the folder of runs.
        failed_older_than_s: runs that failed or died so long ago go as a whole; None keeps them.
        dry_run: delete nothing.

    Returns:
        what was, or with `dry_run` would be, deleted.
    """
    garbage = list(_leftovers(runs_dir, dry_run))
    for path in run_folders(runs_dir):
        if live_holder(path / "lock") is not None:
            continue
        status = read_status(path)
        with nullcontext() if dry_run else hold(path / "lock", what=f"run '{path.name}'"):
            garbage += _of_run(RunDirectory(path), status, failed_older_than_s, dry_run)
    return garbage


def spare_checkpoints(run: RunDirectory) -> list[Path]:
    """Checkpoints that are neither the newest nor the one with the best evaluation loss, oldest first."""
    folders = sorted(path.parent for path in run.checkpoints.glob("ba*/manifest.json"))
    if not folders:
        return []
    newest = folders.pop()
    best = json.loads((newest / "state.json").read_bytes())["state"]["best_checkpoint"]
    return [folder for folder in folders if folder.name != best]


def _of_run(run: RunDirectory, status: RunStatus, failed_older_than_s: float | None, dry_run: bool) -> list[Garbage]:
    age_s = time.time() - (status.heartbeat_at or run.path.stat().st_mtime)
    if failed_older_than_s is not None and status.status in _ENDED_BADLY and age_s > failed_older_than_s:
        return [_delete(run.path, f"the run {status.status} {age_s / _DAY_S:.0f} days ago", dry_run)]
    garbage = [item for folder in (run.path, run.checkpoints) for item in _leftovers(folder, dry_run)]
    if status.status == "done":
        reason = "neither the newest nor the best checkpoint of a finished run"
        garbage += [_delete(path, reason, dry_run) for path in spare_checkpoints(run)]
    return garbage


def _leftovers(folder: Path, dry_run: bool) -> Iterator[Garbage]:
    if not folder.is_dir():
        return
    sizes = {path: size_bytes(path) for path in sorted(folder.iterdir()) if is_temporary(path.name)}
    for path in sizes if dry_run else sweep(folder):
        yield Garbage(path=path, reason="left by a process that was killed", size_bytes=sizes.get(path, 0))


def _delete(path: Path, reason: str, dry_run: bool) -> Garbage:
    garbage = Garbage(path=path, reason=reason, size_bytes=size_bytes(path))
    if not dry_run:
        remove_directory(path)
    return garbage
