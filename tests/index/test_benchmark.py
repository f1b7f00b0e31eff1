"""The benchmark of the index at its smallest size: figures that do not depend on how busy the machine is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bench" / "index.py"


@pytest.mark.slow
@pytest.mark.integration
def test_recall_and_what_a_sync_needs() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--quick", "--json"], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["size"] == "quick"
    for dataset, enough in (("mixture", 0.99), ("text", 0.97)):  # how much text there is depends on the machine's speed
        searched = report[dataset]["searched"]
        assert searched["qdrant_edge"]["128 recall"] >= enough
        assert searched["exact"]["0 recall"] >= 0.999
    filtered = {name: value for name, value in report["index"]["search_index"].items() if "%" in name}
    recalls = {name: value for name, value in filtered.items() if name.endswith(" recall")}
    assert len(recalls) == 8
    assert min(recalls.values()) >= 0.95, recalls
    assert report["sync"]["nothing_changed_loads_torch"] == 0
    assert report["sync"]["share_of_the_first"] < 1
