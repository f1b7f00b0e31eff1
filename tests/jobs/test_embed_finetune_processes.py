"""`genai embed-finetune` in processes of its own: killed at bad moments, on two ranks, two at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from kill_points import AT_EVENT
from safetensors.numpy import load_file
from tuning_jobs import make_encoder, make_place, write_job

from genai.tracking.metrics import read_metrics
from genai.tracking.run import RunDirectory

pytestmark = pytest.mark.slow

MINED = {"hard_negatives": {"num_negatives": 2, "candidates": 10, "refresh": "4ba"}, "max_duration": "3ep"}
KILLS: tuple[Mapping[str, object], ...] = (
    {"event": "os.rename", "part": "negatives", "number": 1},
    {"event": "os.rename", "part": "negatives", "number": 2},
    {"event": "os.rename", "part": "ba00000005", "number": 1},
    {"event": "os.rename", "part": "manifest", "number": 2},
    {"event": "os.rename", "part": "model", "number": 1},
    {"event": "os.rename", "part": "report.html", "number": 1},
    {"event": "os.rename", "part": "result.json", "number": 1},
)
"""Where the process is killed, one after the other, on one run."""


def genai(folder: Path, *arguments: str, prelude: str = "") -> subprocess.CompletedProcess[str]:
    code = f"{prelude}\nimport sys\nfrom genai_cli.main import main\nsys.exit(main())"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=300,
        check=False,
    )


def told(run: Path, name: str) -> list[float]:
    return [record[name] for record in read_metrics(run / "metrics.jsonl") if name in record]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return make_place(tmp_path)


def test_a_run_that_is_killed_again_and_again_ends_like_one_that_is_not(place: Path) -> None:
    config = str(write_job(place, **MINED))
    whole = genai(place, "embed-finetune", config, "--run-name", "whole")
    assert whole.returncode == 0, whole.stderr
    killed = 0
    for kill in KILLS:
        ended = genai(place, "embed-finetune", config, prelude=AT_EVENT.format(**kill))
        assert ended.returncode in (0, -9), ended.stderr
        killed += ended.returncode == -9
    assert killed >= 5
    last = genai(place, "embed-finetune", config)
    assert last.returncode == 0, last.stderr
    runs = place / "runs"
    for name in ("loss/train", "loss/eval", "grad_norm"):
        assert told(runs / "tiny", name) == told(runs / "whole", name)
    weights = [(runs / name / "model" / "model.safetensors").read_bytes() for name in ("tiny", "whole")]
    assert weights[0] == weights[1]
    results = [RunDirectory(runs / name).read_result() or {} for name in ("tiny", "whole")]
    assert results[0]["changes"] == results[1]["changes"]


def test_two_ranks_tune_like_one(place: Path) -> None:
    make_encoder(place / "plain", dropout=0.0)
    model = {"name": "sentence_encoder", "pretrained_model_name_or_path": str(place / "plain")}
    config = str(write_job(place, **{**MINED, "model": model}))
    one = genai(place, "embed-finetune", config, "--run-name", "one")
    assert one.returncode == 0, one.stderr
    two = genai(place, "embed-finetune", config, "--nproc", "2", "--run-name", "two")
    assert two.returncode == 0, two.stderr
    runs = place / "runs"
    for name in ("loss/train", "loss/eval", "grad_norm"):
        alone, together = told(runs / "one", name), told(runs / "two", name)
        assert len(alone) == len(together) > 1
        assert np.allclose(alone, together, rtol=1e-3), name
    first, second = (load_file(runs / name / "model" / "model.safetensors") for name in ("one", "two"))
    apart = max(float(np.abs(first[name] - second[name]).max()) for name in first)
    moved = max(
        float(np.abs(first[name] - load_file(place / "plain" / "model.safetensors")[name]).max()) for name in first
    )
    assert apart < 0.02 * moved


def test_a_second_process_is_refused(place: Path) -> None:
    config = str(write_job(place))
    with RunDirectory.open(place / "runs", "tiny").lock():
        ended = genai(place, "embed-finetune", config)
    assert ended.returncode == 1
    [error] = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert str(os.getpid()) in error
