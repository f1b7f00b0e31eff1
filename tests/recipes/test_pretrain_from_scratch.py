"""The story at toy size: its own script, its own text, a real server, two ranks; only smaller and shorter."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
STORY = REPOSITORY / "recipes" / "pretrain-from-scratch"
TOY = (
    "model.d_model=32",
    "model.n_layers=1",
    "model.n_heads=2",
    "model.n_kv_heads=2",
    "max_duration=4ba",
    "eval_interval=4ba",
    "save_interval=4ba",
    "global_train_batch_size=4",
    "device=cpu",
)


def _environment(**changes: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **changes}


@pytest.mark.slow
@pytest.mark.needs("curl")
def test_the_story_at_toy_size(tmp_path: Path) -> None:
    folder = tmp_path / "story"
    shutil.copytree(STORY, folder, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    environment = _environment(MEGABYTES="1", VOCABULARY="512", SEQ_LEN="64")
    command = ["bash", str(folder / "run.sh"), *TOY]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = re.findall(r"^(\S[^,]*?) +perplexity +([\d.]+) +[\d.]+ nats", done.stdout, re.M)
    table = {name: float(value) for name, value in lines}
    *ngrams, model = table.values()
    assert list(table)[:4] == ["unigram", "bigram", "trigram", "5-gram"]
    assert ngrams == sorted(ngrams, reverse=True)
    result = json.loads((folder / "runs" / "from-scratch" / "result.json").read_text())
    assert model == pytest.approx(result["perplexity"], abs=0.01)
    assert result["num_ranks"] == 2
    assert (folder / "runs" / "from-scratch" / "model" / "tokenizer.json").is_file()
    again = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.splitlines()[-1] == done.stdout.splitlines()[-1]


@pytest.mark.integration
def test_text_is_collected_in_the_same_order_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        command = [sys.executable, str(STORY / "collect.py"), str(tmp_path / name), "--max-bytes", "100000"]
        subprocess.run(command, env=_environment(PYTHONHASHSEED=str(len(name))), check=True, capture_output=True)
    text = (tmp_path / "one" / "docstrings.jsonl").read_text()
    assert text == (tmp_path / "two" / "docstrings.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert all(set(row) == {"text", "module"} and len(row["text"]) >= 40 for row in rows)
    assert sum(len(row["text"].encode()) for row in rows) >= 100_000


@pytest.mark.integration
def test_ngrams_of_shards(tmp_path: Path) -> None:
    from genai.data.mds import MDSWriter
    from genai.metrics.ngrams import KneserNey, count_ngrams

    rows = {"train": np.arange(300).reshape(30, 10) % 13, "validation": np.arange(40).reshape(4, 10) % 13}
    for split, rows_RS in rows.items():
        with MDSWriter(str(tmp_path / split), {"tokens": "ndarray:uint16:10"}, size_limit_bytes=400) as writer:
            writer.write_rows("tokens", rows_RS.astype(np.uint16))
    done = subprocess.run(
        [sys.executable, str(STORY / "ngrams.py"), str(tmp_path)], capture_output=True, text=True, check=True
    )
    model = KneserNey(count_ngrams(rows["train"], order=2, vocab_size=13), order=2, vocab_size=13)
    assert f"perplexity {model.perplexity(rows['validation']):10.2f}" in done.stdout.splitlines()[2]
    assert "counted on 300 tokens, held out 40" in done.stdout
