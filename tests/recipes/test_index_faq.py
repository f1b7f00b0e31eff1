"""The story as it is shipped: its own script, the real encoder, a real Delta table; only the numbers are checked."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
STORY = REPOSITORY / "recipes" / "index-faq"


@pytest.mark.slow
def test_the_story(tmp_path: Path) -> None:
    folder = tmp_path / "story"
    shutil.copytree(STORY, folder, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(["bash", str(folder / "run.sh")], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    results = [json.loads(file.read_text()) for file in sorted((folder / "runs").glob("faq-*/result.json"))]
    assert [each["account"]["documents_upserted"] for each in results] == [503, 3], "the third sync made no run"
    assert [each["account"]["embeddings_new"] for each in results] == [503, 3]
    assert "For moving a bird box it is 12 SEK." in done.stdout
    assert "; up to date" in done.stdout
    scores = re.findall(r"^(dense|bm25|hybrid) +([\d. ]+)$", done.stdout, re.M)
    ndcg = {mode: float(numbers.split()[-1]) for mode, numbers in scores}
    assert ndcg["dense"] >= 0.71
    assert ndcg["hybrid"] >= max(ndcg["dense"], ndcg["bm25"]) - 0.01
