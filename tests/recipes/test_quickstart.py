"""The first story as it is shipped: trained, measured, promoted, served; and a model that is no better goes nowhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
STORY = REPOSITORY / "recipes" / "quickstart"


def tell(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a copy of the recipe."""
    shutil.copytree(STORY, folder, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PORT": port}
    command = ["bash", str(folder / "run.sh"), *overrides]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_story(tmp_path: Path) -> None:
    done = tell(tmp_path / "story")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "story" / "runs" / "quickstart-eval" / "result.json").read_text())
    tuned = next(each for each in result["measured"] if each["comparison"])
    assert tuned["comparison"]["low"] > 0
    assert tuned["comparison"]["significant"]
    assert all(gate["passed"] for gate in result["gates"])
    assert "registry:construction-faq@production is version 1" in done.stdout
    answer = done.stdout.rpartition("Do I need a building permit for a deck?")[2].strip()
    assert len(re.findall(r"\w+", answer)) > 5


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_model_that_learned_nothing_is_neither_promoted_nor_served(tmp_path: Path) -> None:
    short = ["max_duration=1ba", "scheduler.t_warmup=0ba", "eval_interval=1ba", "save_interval=1ba"]
    done = tell(tmp_path / "story", "optimizer.lr=1.0e-9", *short)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "faq.token_f1 significantly better" in done.stderr
    assert "is version 1" not in done.stdout
    assert not list((tmp_path / "story" / "runs").glob(".registry/*"))
