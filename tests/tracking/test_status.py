import os
import signal
import socket
import time
from pathlib import Path

import pytest

from genai.tracking import status as status_module
from genai.tracking.lock import hold
from genai.tracking.run import RunDirectory
from genai.tracking.status import SILENT_AFTER_S, heartbeat, read_status, write_status


def test_a_run_that_never_began_is_new(tmp_path: Path) -> None:
    assert read_status(tmp_path).status == "new"


@pytest.mark.parametrize("status", ["done", "failed", "stopped", "interrupted"])
def test_an_end_stays_what_it_was(tmp_path: Path, status: status_module.Status) -> None:
    write_status(tmp_path, status, "why")
    said = read_status(tmp_path)
    assert (said.status, said.message, said.pid, said.host) == (status, "why", os.getpid(), socket.gethostname())


def test_a_resume_keeps_the_moment_of_creation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_module, "now", lambda: "2026-01-01T00:00:00+00:00")
    write_status(tmp_path, "stopped")
    monkeypatch.setattr(status_module, "now", lambda: "2026-01-02T00:00:00+00:00")
    write_status(tmp_path, "running")
    said = read_status(tmp_path)
    assert said.created_at.startswith("2026-01-01")
    assert said.updated_at.startswith("2026-01-02")


def test_running_reads_as_died_once_the_process_is_gone(tmp_path: Path, hold_elsewhere) -> None:
    process = hold_elsewhere(tmp_path, "faq")
    assert read_status(tmp_path / "faq").status == "running"
    process.send_signal(signal.SIGKILL)
    process.wait()
    said = read_status(tmp_path / "faq")
    assert (said.status, said.message, said.pid) == ("died", "batch 7", process.pid)


def test_a_died_run_stays_died_while_somebody_else_holds_its_lock(tmp_path: Path, hold_elsewhere) -> None:
    process = hold_elsewhere(tmp_path, "faq")
    process.kill()
    process.wait()
    with hold(tmp_path / "faq" / "lock", what="run 'faq'"):
        assert read_status(tmp_path / "faq").status == "died"


def test_a_run_on_another_host_lives_as_long_as_its_heart_beats(run: RunDirectory, monkeypatch) -> None:
    monkeypatch.setattr(status_module.socket, "gethostname", lambda: "node-7")
    run.set_status("running")
    monkeypatch.undo()
    assert run.status.status == "running"
    silent = time.time() - SILENT_AFTER_S - 1
    os.utime(run.path / "status.json", (silent, silent))
    assert run.status.status == "died"


def test_the_heart_beats_while_the_block_runs(run: RunDirectory, monkeypatch) -> None:
    run.set_status("running")
    os.utime(run.path / "status.json", (0, 0))
    monkeypatch.setattr(status_module, "HEARTBEAT_S", 0.01)
    with heartbeat(run.path):
        deadline = time.monotonic() + 5
        while run.status.heartbeat_at == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert time.time() - run.status.heartbeat_at < 60
