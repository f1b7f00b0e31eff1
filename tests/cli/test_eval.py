"""`genai eval` on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a job file over six logged answers, of which four are right."""
    monkeypatch.chdir(tmp_path)
    rows = [{"id": str(row), "prompt": f"{row}?", "reference": str(row)} for row in range(6)]
    said = [{"id": str(row), "answer": str(row if row < 4 else -1)} for row in range(6)]
    for name, values in (("data", rows), ("said", said)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in values))
    job = {
        "target": {"file": "said.jsonl"},
        "datasets": [{"name": "sums", "path": "data.jsonl"}],
        "metrics": ["exact_match"],
        "gates": ["exact_match >= 0.5"],
    }
    (tmp_path / "job.yaml").write_text(json.dumps(job))
    return tmp_path


def test_a_run_says_what_it_found(genai: Callable[..., Any], folder: Path) -> None:
    ended = genai("eval", "job.yaml", "--run-name", "sums")
    assert ended.code == 0
    assert "sums.exact_match  0.6667" in ended.out
    assert "exact_match >= 0.5  holds" in ended.out
    found = genai("eval", "job.yaml", "--json").json
    assert (found["schema_version"], found["passed"], found["measured"][0]["num"]) == (1, True, 6)


def test_a_gate_that_does_not_hold(genai: Callable[..., Any], folder: Path) -> None:
    ended = genai("eval", "job.yaml", 'gates=["exact_match >= 0.9"]')
    assert ended.code == 3
    assert "DOES NOT HOLD" in ended.out
    assert "error: 1 of 1 gates do not hold: exact_match >= 0.9: sums.exact_match 0.667 is not >= 0.9" in ended.err


def test_the_plan(genai: Callable[..., Any], folder: Path) -> None:
    ended = genai("eval", "job.yaml", "--dry-run")
    assert ended.code == 0
    assert "nothing was asked" in ended.out
    assert not (folder / "runs").exists()
    assert genai("eval", "job.yaml", "--dry-run", "--json").json["datasets"]["sums"]["examples"] == 6


def test_an_empty_file_and_a_typo(genai: Callable[..., Any], folder: Path) -> None:
    (folder / "data.jsonl").write_text("")
    ended = genai("eval", "job.yaml")
    assert (ended.code, ended.out) == (2, "")
    assert "job.yaml:1:" in ended.err and "the file is empty" in ended.err
    assert "not measured" not in ended.err
    (folder / "empty.yaml").write_text("")
    assert genai("eval", "empty.yaml").code == 2
    ended = genai("eval", "job.yaml", "metrix=[exact_match]")
    assert ended.code == 2
    assert "did you mean 'metrics'" in ended.err
    ended = genai("eval", "compair", "a", "b")
    assert ended.code == 2


def test_compare_and_leaderboard(genai: Callable[..., Any], folder: Path) -> None:
    for name in ("one", "two"):
        assert genai("eval", "job.yaml", "--run-name", name).code == 0
    ended = genai("eval", "compare", "one", "two", "--html", "diff.html")
    assert ended.code == 0
    assert "exact_match" in ended.out
    assert "<html" in (folder / "diff.html").read_text()
    ended = genai("eval", "leaderboard")
    assert ended.code == 0
    assert "one" in ended.out and "two" in ended.out
    assert genai("eval", "compare", "one", "three").code == 2


def test_metrics_are_listed(genai: Callable[..., Any]) -> None:
    ended = genai("eval", "metrics")
    assert ended.code == 0
    for name in ("exact_match", "perplexity", "recall@K", "groundedness"):
        assert name in ended.out


def test_embeddings(genai: Callable[..., Any], folder: Path) -> None:
    generator = np.random.default_rng(1)
    real = generator.standard_normal((500, 4))
    np.save("real.npy", real)
    np.save("made.npy", real + 1)
    np.save("classes.npy", np.eye(5).repeat(4, axis=0))
    found = genai("eval", "embeddings", "real.npy", "made.npy", "--probabilities", "classes.npy", "--json").json
    assert found["frechet"]["distance"] == pytest.approx(4.0)
    assert found["inception"] == pytest.approx(5.0)
    assert "frechet" in genai("eval", "embeddings", "real.npy", "made.npy").out
    ended = genai("eval", "embeddings", "real.npy")
    assert ended.code == 2
    assert "two files of embeddings are needed" in ended.err
    (folder / "bad.npy").write_bytes(b"\x80\x04.")
    assert genai("eval", "embeddings", "real.npy", "bad.npy").code == 1
