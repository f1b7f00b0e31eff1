from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from genai.tracking.metrics import MetricsLog
from genai.tracking.run import RunDirectory

Genai = Callable[..., Any]

HOLD = """
import sys, time
from genai.tracking.run import RunDirectory
run = RunDirectory.open("runs", "live")
with run.lock(), run.log_to_file():
    run.set_status("running")
    print("held", flush=True)
    sys.stdin.readline()
    with run.log_path.open("a") as log:
        log.write("one more line\\n")
    run.set_status("done")
"""


@pytest.fixture
def runs_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory whose runs/ holds faq-1 and faq-2."""
    monkeypatch.chdir(tmp_path)
    for name, lr, after in (("faq-1", "1.0e-4", 2.9), ("faq-2", "5.0e-4", 2.7)):
        run = RunDirectory.open("runs", name)
        run.write_config(f"optimizer: {{lr: {lr}}}\nkey: env:TOKEN\n")
        run.write_overrides([])
        run.write_inputs({"model": {"sha256": "ab" * 32}})
        run.write_result({"losses": {"before": 3.9, "after": after}, "answers": [{"base": "no"}], "config": {"a": 1}})
        run.log_path.write_text("".join(f"line {number}\n" for number in range(100)) + "\x1b[31mred\x1b[0m\n")
        log = MetricsLog(run.metrics_path)
        log.log(200, {"loss/train": 2.5, "loss/eval": after}, tokens=161204)
        log.close()
        run.set_status("done", "all \x1b[2Jwell")
    return tmp_path / "runs"


@pytest.fixture
def live(runs_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the run live until it is told to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=runs_dir.parent
    )
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_ls(runs_dir: Path, genai: Genai) -> None:
    lines = genai("runs", "ls").out.splitlines()
    assert lines[0].split() == ["RUN", "STATUS", "STEP", "TRAIN", "LOSS", "EVAL", "LOSS", "STARTED", "SIZE"]
    assert lines[1].split()[:7] == ["faq-1", "done", "200", "2.5", "2.9", "just", "now"]
    assert len(lines) == 3
    told = genai("runs", "ls", "--json").json
    assert [(run["name"], run["status"], run["step"], run["metrics"]["loss/eval"]) for run in told["runs"]] == [
        ("faq-1", "done", 200, 2.9),
        ("faq-2", "done", 200, 2.7),
    ]


def test_ls_of_nothing(tmp_path: Path, genai: Genai) -> None:
    assert genai("runs", "ls", "--runs-dir", tmp_path / "none").out == f"no runs in {tmp_path}/none\n"


def test_ls_tells_a_live_run_from_one_that_died(live: subprocess.Popen[str], genai: Genai) -> None:
    def status() -> str:
        return {run["name"]: run["status"] for run in genai("runs", "ls", "--json").json["runs"]}["live"]

    assert status() == "running"
    live.kill()
    live.wait()
    assert status() == "died"


def test_show(runs_dir: Path, genai: Genai) -> None:
    out = genai("runs", "show", "faq-1").out
    assert "\x1b" not in out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for line in (
        "run faq-1",
        "status done: all [2Jwell",
        "step 200",
        "tokens 161204",
        "loss/eval 2.9",
        "losses.after 2.9",
        f"model.sha256 {'ab' * 32}",
        "optimizer: {lr: 1.0e-4}",
        "key: env:TOKEN",
    ):
        assert line in lines
    assert not [line for line in lines if line.startswith(("config.", "answers"))]
    told = genai("runs", "show", "faq-1", "--json").json
    assert told["result"]["answers"] == [{"base": "no"}]
    assert told["config"].startswith("optimizer")
    assert told["environment"] is None


def test_a_run_that_is_not_there(runs_dir: Path, genai: Genai) -> None:
    ended = genai("runs", "show", "faq")
    assert (ended.code, ended.out) == (2, "")
    assert "could be several runs" in ended.err and "faq-1, faq-2" in ended.err
    told = genai("runs", "show", "fqa-1", "--json")
    assert told.code == 2 and told.json["error"]["fix"] == "did you mean 'faq-1'?"


def test_diff(runs_dir: Path, genai: Genai) -> None:
    lines = [line.split() for line in genai("runs", "diff", "faq-1", "faq-2").out.splitlines()]
    assert lines == [
        ["first", "faq-1"],
        ["second", "faq-2"],
        [],
        ["WHERE", "KEY", "FIRST", "SECOND"],
        ["config", "optimizer.lr", "0.0001", "0.0005"],
        ["result", "losses.after", "2.9", "2.7"],
    ]
    (config, result) = genai("runs", "diff", "faq-1", "faq-2", "--json").json["differences"]
    assert config == {"section": "config", "key": "optimizer.lr", "first": "0.0001", "second": "0.0005"}
    assert result["section"] == "result"
    assert genai("runs", "diff", "faq-1", "faq-1").out.endswith("\n\nno difference\n")


def test_logs(runs_dir: Path, genai: Genai) -> None:
    assert genai("runs", "logs", "faq-1", "-n", "2").out == "line 99\n[31mred[0m\n"
    assert len(genai("runs", "logs", "faq-1").out.splitlines()) == 50
    assert genai("runs", "logs", "faq-1", "-n", "1", "--json").json["lines"] == ["[31mred[0m"]


def test_logs_of_a_run_that_said_nothing(runs_dir: Path, genai: Genai) -> None:
    RunDirectory.open("runs", "new").write_config("a: 1\n")
    ended = genai("runs", "logs", "new")
    assert ended.code == 2 and "has said nothing yet" in ended.err


def test_logs_can_be_followed_to_the_end_of_the_run(live: subprocess.Popen[str], genai: Genai) -> None:
    def end_it() -> None:
        time.sleep(0.3)
        assert live.stdin is not None
        live.stdin.write("\n")
        live.stdin.flush()

    thread = threading.Thread(target=end_it)
    thread.start()
    ended = genai("runs", "logs", "live", "--follow")
    thread.join()
    assert ended.code == 0 and ended.out.endswith("one more line\n")
    assert genai("runs", "logs", "live", "--follow", "--json").code == 2


def test_rm(runs_dir: Path, genai: Genai) -> None:
    assert genai("runs", "rm", "faq-1", "--dry-run").out.startswith("would remove faq-1, ")
    assert (runs_dir / "faq-1").exists()
    told = genai("runs", "rm", "faq-1", "faq-2", "--json").json
    assert [run["name"] for run in told["removed"]] == ["faq-1", "faq-2"]
    assert list(runs_dir.iterdir()) == []


def test_rm_refuses_a_run_whose_model_is_in_production(runs_dir: Path, genai: Genai) -> None:
    from genai.tracking import registry

    values = {"kind": "sentence_encoder", "model": "runs:faq-1", "run": "faq-1", "fingerprint": "f", "tables": {}}
    facts = {"data_fingerprint": "d", "metrics": [], "tuned_from": "base", "inputs": {}}
    registry.register(runs_dir, "faq", **values, **facts)
    registry.set_alias(runs_dir, "faq", "production", 1)
    refused = genai("runs", "rm", "faq-1", "--runs-dir", str(runs_dir))
    assert refused.code == 2
    assert "run 'faq-1' made registry:faq@production" in refused.err
    assert (runs_dir / "faq-1").is_dir()


def test_lineage_is_drawn_as_a_tree(runs_dir: Path, genai: Genai) -> None:
    RunDirectory(runs_dir / "faq-2").write_inputs(
        {"model": {"reference": "runs:faq-1", "fingerprint": "sha256:abc"}, "train": {"rows": 40}}
    )
    assert genai("runs", "lineage", "faq-2").out.splitlines() == [
        "run faq-2",
        f"│    began {RunDirectory(runs_dir / 'faq-2').status.created_at}",
        "├─ model runs:faq-1",
        "│  │    fingerprint sha256:abc",
        "│  └─ run faq-1",
        f"│     │    began {RunDirectory(runs_dir / 'faq-1').status.created_at}",
        "│     └─ data model",
        f"│             sha256 {'ab' * 30}...",
        "└─ data train",
        "        rows 40",
    ]
    told = genai("runs", "lineage", "runs:faq-2", "--json").json["lineage"]
    assert [parent["name"] for parent in told["parents"]] == ["runs:faq-1", "train"]
    assert genai("runs", "lineage", "registry:faq").code == 2


def test_rm_wants_whole_names_and_removes_nothing_otherwise(runs_dir: Path, genai: Genai) -> None:
    RunDirectory.open("runs", "chat-1").write_config("a: 1\n")
    ended = genai("runs", "rm", "faq-1", "chat")
    assert ended.code == 2 and "genai runs rm chat-1" in ended.err
    assert len(list(runs_dir.iterdir())) == 3


def test_rm_refuses_a_live_run_and_removes_nothing(live: subprocess.Popen[str], runs_dir: Path, genai: Genai) -> None:
    ended = genai("runs", "rm", "faq-1", "live")
    assert ended.code == 1
    assert f"run 'live' is held by process {live.pid}" in ended.err and f"kill {live.pid}" in ended.err
    assert (runs_dir / "faq-1").exists()


def test_gc(runs_dir: Path, genai: Genai) -> None:
    RunDirectory.open("runs", "bad").set_status("failed", "disk full")
    assert genai("runs", "gc").out == "freed 0 B in runs\n"
    lines = genai("runs", "gc", "--failed-older-than", "0d", "--dry-run").out.splitlines()
    assert lines[1].split()[0] == "bad" and lines[1].endswith("the run failed 0 days ago")
    assert lines[2].startswith("would free ")
    assert (runs_dir / "bad").exists()
    told = genai("runs", "gc", "--failed-older-than", "0d", "--json").json
    assert [(item["path"], item["reason"]) for item in told["removed"]] == [("runs/bad", "the run failed 0 days ago")]
    assert not (runs_dir / "bad").exists()
    assert "is no age" in genai("runs", "gc", "--failed-older-than", "soon").err
