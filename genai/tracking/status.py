"""How a run stands: what it last said of itself, and whether the process that said it still lives."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from genai.storage.atomic import write_json
from genai.tracking.lock import live_holder, now

Status = Literal["running", "done", "failed", "stopped", "interrupted"]
"""What a job says of itself; stopped is SIGTERM, interrupted is Ctrl-C, both after the state was saved."""

HEARTBEAT_S = 20.0
SILENT_AFTER_S = 180.0
"""A run on another host whose last heartbeat is older than this counts as died."""


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """A run's status.json, judged by whether its process still lives."""

    status: Status | Literal["new", "died"]
    """new: nothing was said yet; died: it said running, but its process is gone."""
    message: str = ""
    """One line: the error, or what the job was doing."""
    host: str = ""
    """Where it runs or ran."""
    pid: int = 0
    """Its process there."""
    created_at: str = ""
    """When it first said something, ISO 8601 in UTC."""
    updated_at: str = ""
    """When it last changed what it says."""
    heartbeat_at: float = 0.0
    """When it was last known to live, seconds since 1970."""


def write_status(folder: Path, status: Status, message: str = "") -> None:
    """Record in `folder`/status.json how the run stands; the first moment is kept over resumes."""
    moment = now()
    value = RunStatus(
        status=status,
        message=message,
        host=socket.gethostname(),
        pid=os.getpid(),
        created_at=_said(folder).created_at or moment,
        updated_at=moment,
        heartbeat_at=time.time(),
    )
    write_json(folder / "status.json", asdict(value))


def read_status(folder: Path) -> RunStatus:
    """How the run in `folder` stands; one that says running while its process is gone reads as died."""
    said = _said(folder)
    if said.status != "running" or _lives(folder, said):
        return said
    return RunStatus(**{**asdict(said), "status": "died", "message": said.message or "its process is gone"})


@contextmanager
def heartbeat(folder: Path) -> Iterator[None]:
    """Touch status.json every `HEARTBEAT_S` seconds until the block is left; its modification time is the heartbeat."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT_S):
            with suppress(FileNotFoundError):
                os.utime(folder / "status.json")

    thread = threading.Thread(target=beat, name="genai-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _said(folder: Path) -> RunStatus:
    path = folder / "status.json"
    try:
        value = json.loads(path.read_bytes())
        return RunStatus(**{**value, "heartbeat_at": path.stat().st_mtime})
    except FileNotFoundError:
        return RunStatus(status="new")


def _lives(folder: Path, said: RunStatus) -> bool:
    if said.host == socket.gethostname():
        holder = live_holder(folder / "lock")
        return holder is not None and holder.pid == said.pid
    return time.time() - said.heartbeat_at < SILENT_AFTER_S
