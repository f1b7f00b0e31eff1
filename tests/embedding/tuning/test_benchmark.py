"""The benchmark of embedding models at its smallest size: figures that do not depend on how busy the machine is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "bench" / "embed_finetune.py"


@pytest.mark.slow
@pytest.mark.integration
def test_both_sides_do_the_same_and_this_one_is_not_slower() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--quick", "--json"], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["size"], report["batch_size"]) == ("quick", 8)
    assert report["results"]["ours"]["uniform_pairs_per_cpu_s"] > 0
    if "skipped" in report:
        pytest.skip(report["skipped"])
    assert report["gradients"]["loss_difference"] < 1e-5
    assert report["gradients"]["relative_norm"] < 1e-4
    assert report["ratios"]["ragged_pairs_per_cpu_s"] > 1.3
