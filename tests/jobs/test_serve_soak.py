"""The soak test itself, for two minutes: all sorts of clients, and no slot is left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "soak.py"


@pytest.mark.integration
@pytest.mark.slow
def test_two_minutes_leave_nothing_behind() -> None:
    command = [sys.executable, str(SCRIPT), "--minutes", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-8000:]
    report = json.loads(done.stdout)
    assert report["missed"] == []
    assert not any(report["left"].values())
    assert sum(report["answered"].values()) > 100
