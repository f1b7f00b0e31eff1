"""The index job as processes: what an idle sync costs, two at once, following, kills and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from index_jobs import NEW_TEXT, ROWS, make_word_model, merge_rows, write_job, write_table

from genai.tracking.status import read_status

pytestmark = pytest.mark.integration

LOOK = """
import resource, sys, time
from genai_cli.main import main
before = resource.getrusage(resource.RUSAGE_SELF)
code = main(sys.argv[1:])
after = resource.getrusage(resource.RUSAGE_SELF)
print(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, file=sys.stderr)
print(*sorted({"torch", "transformers", "sklearn", "scipy"} & set(sys.modules)), "nothing-more", file=sys.stderr)
sys.exit(code)
"""
"""Runs a command line, and ends with its CPU seconds and the heavy modules that it imported."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a table, a model and a job file."""
    make_word_model(tmp_path / "model")
    write_table(tmp_path / "table")
    write_job(tmp_path / "rooms.yaml", engine={"name": "qdrant_edge"})
    return tmp_path


@pytest.fixture
def start(place: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `genai WORDS...` in that folder; what still runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def run(*words: str, code: str = "from genai_cli.main import main; import sys; sys.exit(main())") -> Any:
        command = [sys.executable, "-c", code, *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, cwd=place, text=True, env={**os.environ, "CI": "true"}, **pipes)
        running.append(process)
        return process

    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_sync_without_changes_is_cheap(place: Path, start: Any) -> None:
    first = start("index", "rooms.yaml")
    assert first.wait() == 0, first.stderr.read()
    again = start("index", "rooms.yaml", "--json", code=LOOK)
    out, err = again.communicate()
    assert again.returncode == 0, err
    assert json.loads(out)["did"] == "nothing"
    *_, seconds, modules = err.strip().splitlines()
    assert modules == "nothing-more"
    assert float(seconds) <= 1.0, "half of that on an idle machine, see scripts/bench/index.py"


def test_a_second_sync_is_refused_and_queries_go_on(place: Path, start: Any) -> None:
    follower = start("index", "rooms.yaml", "sync.mode=continuous", "sync.poll_s=0.2")
    wait_until(lambda: (place / "runs" / "rooms-1" / "result.json").is_file())
    refused = start("index", "rooms.yaml")
    _, err = refused.communicate()
    assert refused.returncode == 1
    assert f"index 'rooms' is held by process {follower.pid}" in err
    out, err = start("index", "stats", "rooms", "--json").communicate()
    assert f"process {follower.pid}" in json.loads(out)["holder"], err
    asked = start("index", "query", "rooms", "gutter", "--json")
    out, err = asked.communicate()
    assert asked.returncode == 0, err
    assert json.loads(out)["results"][0]["key"] == "4"


@pytest.mark.parametrize(
    ("number", "code", "status"), [(signal.SIGTERM, 143, "stopped"), (signal.SIGINT, 130, "interrupted")]
)
def test_following_a_table_until_a_signal(place: Path, start: Any, number: int, code: int, status: str) -> None:
    run = place / "runs" / "rooms-1"

    def upserted() -> int | None:
        file = run / "result.json"
        return json.loads(file.read_text())["account"]["documents_upserted"] if file.is_file() else None

    follower = start("index", "rooms.yaml", "sync.mode=continuous", "sync.poll_s=0.2")
    wait_until(lambda: upserted() == 5)
    assert read_status(run).status == "running"
    committed = time.monotonic()
    merge_rows(place / "table", [{**ROWS[0], "text": NEW_TEXT}])
    wait_until(lambda: upserted() == 1)
    assert time.monotonic() - committed < 30
    follower.send_signal(number)
    _, err = follower.communicate()
    assert follower.returncode == code, err
    assert read_status(run).status == status
    inputs = json.loads((run / "inputs.json").read_text())["source"]
    assert (inputs["from"], inputs["to"]["version"]) == ({}, 1)
    assert NEW_TEXT in (run / "report.html").read_text(), "the report is written once more at the end"
    assert [path.name for path in (place / "runs").iterdir()] == ["rooms-1"]


def test_following_goes_on_with_an_encoder_that_is_put_in_meanwhile(place: Path, start: Any) -> None:
    make_word_model(place / "other", seed=1, width=128)
    follower = start("index", "rooms.yaml", "sync.mode=continuous", "sync.poll_s=0.2")
    wait_until(lambda: (place / "runs" / "rooms-1" / "result.json").is_file())
    swap = start("index", "swap", "rooms", "--embedding", "./other", "--without-evaluation")
    _, err = swap.communicate()
    assert swap.returncode == 0, err
    merge_rows(place / "table", [{**ROWS[0], "text": NEW_TEXT}])

    def found() -> bool:
        out, _ = start("index", "query", "rooms", "chimney sweep", "--k", "1", "--json").communicate()
        answer = json.loads(out)
        return bool(answer["generation"] == "g2" and answer["results"][0]["text"] == NEW_TEXT)

    wait_until(found)
    follower.terminate()
    _, err = follower.communicate()
    assert follower.returncode == 143
    assert "index 'rooms': from now on embedded by ./other" in err
    back = start("index", "rollback", "rooms", "--json")
    out, err = back.communicate()
    assert json.loads(out)["embedding"] == "./model", err


def test_a_killed_sync_reads_as_died_and_is_gone_on_with(place: Path, start: Any) -> None:
    die = (
        "import os, signal, sys\n"
        "from genai.index import applying\n"
        "applying.Applier.bring_up = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from genai_cli.main import main\n"
        "sys.exit(main())"
    )
    killed = start("index", "rooms.yaml", code=die)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert read_status(place / "runs" / "rooms-1").status == "died"
    again = start("index", "rooms.yaml", "--json")
    out, err = again.communicate()
    assert again.returncode == 0, err
    result = json.loads(out)
    assert (result["documents"], result["account"]["embeddings_new"]) == (5, 0)
    assert read_status(place / "runs" / result["run"]).status == "done"


def test_the_config_of_a_first_sync_that_failed_is_known(place: Path, start: Any) -> None:
    (place / "indexes").mkdir()
    failing = start("index", "rooms.yaml", "sync.batch_size=2", code=_failing("put"))
    failing.communicate()
    assert failing.returncode != 0
    asked = start("index", "query", "rooms", "gutter")
    _, err = asked.communicate()
    assert asked.returncode == 2
    assert "holds nothing to search yet" in err
    dropped = start("index", "drop", "rooms")
    _, err = dropped.communicate()
    assert dropped.returncode == 0, err
    assert not (place / "indexes" / "rooms").exists()


def _failing(method: str) -> str:
    return (
        "import sys\n"
        "from genai.index.ledger_writing import Batch\n"
        f"Batch.{method} = lambda *_, **__: 1 / 0\n"
        "from genai_cli.main import main\n"
        "sys.exit(main())"
    )
