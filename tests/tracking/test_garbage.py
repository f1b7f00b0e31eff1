import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genai.tracking.garbage import collect_garbage, spare_checkpoints
from genai.tracking.run import RunDirectory
from genai.tracking.status import Status


def leave_behind(path: Path) -> Path:
    """What a process leaves that is killed while it writes `path`."""
    code = (
        "import sys, pathlib; from genai.storage.atomic import temporary_sibling\n"
        "left = temporary_sibling(pathlib.Path(sys.argv[1])); left.mkdir(); (left / 'part').write_bytes(bytes(100))\n"
        "print(left)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


def make_checkpoint(run: RunDirectory, batch: int, *, best: str | None = None, complete: bool = True) -> Path:
    folder = run.checkpoints / f"ba{batch:08d}"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps({"state": {"batch": batch, "best_checkpoint": best}}))
    if complete:
        (folder / "manifest.json").write_text("{}")
    return folder


@pytest.mark.parametrize("dry_run", [True, False])
def test_leftovers_of_killed_processes_go(run: RunDirectory, dry_run: bool) -> None:
    run.set_status("stopped")
    run.checkpoints.mkdir()
    left = [leave_behind(place / "x") for place in (run.path.parent, run.path, run.checkpoints)]
    garbage = collect_garbage(run.path.parent, dry_run=dry_run)
    assert [(item.path, item.size_bytes) for item in garbage] == [(path, 100) for path in left]
    assert {item.reason for item in garbage} == {"left by a process that was killed"}
    assert all(path.exists() == dry_run for path in left)
    assert run.status.status == "stopped"


def test_the_newest_and_the_best_checkpoint_stay(run: RunDirectory) -> None:
    run.set_status("done")
    first, best, third = (make_checkpoint(run, batch) for batch in (10, 20, 30))
    newest = make_checkpoint(run, 40, best="ba00000020")
    torn = make_checkpoint(run, 50, complete=False)
    assert spare_checkpoints(run) == [first, third]
    garbage = collect_garbage(run.path.parent)
    assert [item.path for item in garbage] == [first, third]
    assert best.exists() and newest.exists() and torn.exists()
    assert collect_garbage(run.path.parent) == []


@pytest.mark.parametrize("status", ["stopped", "failed", "interrupted"])
def test_a_run_that_can_go_on_keeps_its_checkpoints(run: RunDirectory, status: Status) -> None:
    run.set_status(status)
    make_checkpoint(run, 10)
    make_checkpoint(run, 20)
    assert collect_garbage(run.path.parent) == []


def test_failed_runs_go_only_when_asked_for_and_old(tmp_path: Path) -> None:
    long_ago = time.time() - 10 * 86400
    for name, status in [("bad", "failed"), ("good", "done"), ("paused", "stopped"), ("died", "running")]:
        run = RunDirectory.open(tmp_path, name)
        run.set_status(status)  # type: ignore[arg-type]
        os.utime(run.path / "status.json", (long_ago, long_ago))
    RunDirectory.open(tmp_path, "bad-today").set_status("failed")
    assert collect_garbage(tmp_path) == []
    garbage = collect_garbage(tmp_path, failed_older_than_s=7 * 86400)
    assert [(item.path.name, item.reason) for item in garbage] == [
        ("bad", "the run failed 10 days ago"),
        ("died", "the run died 10 days ago"),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad-today", "good", "paused"]


def test_a_living_run_is_left_alone(tmp_path: Path, hold_elsewhere) -> None:
    hold_elsewhere(tmp_path, "faq")
    run = RunDirectory(tmp_path / "faq")
    old = make_checkpoint(run, 1)
    make_checkpoint(run, 2)
    assert collect_garbage(tmp_path, failed_older_than_s=0) == []
    assert old.exists()


def test_a_run_held_by_another_host_is_left_alone(run: RunDirectory) -> None:
    run.set_status("failed")
    holder = {"host": "node-7", "pid": 1, "started_at": "", "command": ""}
    (run.path / "lock").write_text(json.dumps(holder))
    make_checkpoint(run, 1)
    make_checkpoint(run, 2)
    assert collect_garbage(run.path.parent, failed_older_than_s=0) == []
