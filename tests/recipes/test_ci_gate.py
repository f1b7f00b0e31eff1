"""The gate of CI as it is shipped, tried both ways: its script, and the steps of its workflow as a runner does them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
STORY = REPOSITORY / "recipes" / "ci-gate"
WORKFLOW = yaml.safe_load((STORY / "eval-gate.yml").read_text())

pytestmark = pytest.mark.integration


@pytest.fixture
def story(tmp_path: Path) -> Path:
    """A copy of the recipe."""
    folder = tmp_path / "story"
    shutil.copytree(STORY, folder, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    return folder


def environment(**more: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, **more}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def assistant(folder: Path, *flags: str) -> Iterator[str]:
    """The stand-in as a process of its own; its URL."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "assistant.py", str(port), *flags], cwd=folder)
    try:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def take_steps(folder: Path, url: str) -> tuple[int, str]:
    """Run the steps of the workflow in order, up to the first that fails; its exit code, and the step summary."""
    steps = [step for step in WORKFLOW["jobs"]["gate"]["steps"] if "run" in step and step["name"] != "Install"]
    assert len(steps) == 2
    summary = folder / "summary.md"
    code = 0
    for step in steps:
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", step["run"]],
            cwd=folder,
            env=environment(ASSISTANT_URL=url, GITHUB_STEP_SUMMARY=str(summary), CI="true"),
            capture_output=True,
            text=True,
        )
        code = done.returncode
        if code:
            break
    return code, summary.read_text() if summary.exists() else ""


def failures(folder: Path) -> list[str]:
    """Names of the tests that failed, in the JUnit file."""
    cases = ElementTree.parse(folder / "gate.xml").iter("testcase")
    return [case.attrib["name"] for case in cases if case.find("failure") is not None]


def test_the_workflow_lets_a_good_change_through(story: Path) -> None:
    with assistant(story) as url:
        code, summary = take_steps(story, url)
    assert code == 0
    assert failures(story) == []
    assert (story / "runs" / "gate" / "report.html").is_file()
    assert "all 3 gates hold" in summary


def test_the_workflow_stops_a_broken_one(story: Path) -> None:
    with assistant(story, "--broken") as url:
        code, summary = take_steps(story, url)
    assert code == 3
    assert failures(story) == ["prices.exact_match >= 0.8", "prices.exact_match not significantly worse than baseline"]
    assert "2 of 3 gates do not hold" in summary
    result = json.loads((story / "runs" / "gate" / "result.json").read_text())
    assert len(result["gates"]) == 3


def test_the_workflow_fails_when_nobody_answers(story: Path) -> None:
    text = (story / "01-gate.yaml").read_text().replace("timeout_s: 30", "timeout_s: 30\n  max_attempts: 1")
    (story / "01-gate.yaml").write_text(text)
    code, _ = take_steps(story, f"http://127.0.0.1:{free_port()}/v1")
    assert code == 1, "an outage is no verdict"
    assert not (story / "gate.xml").exists() or failures(story)


def test_the_workflow_stops_when_the_golden_set_was_changed(story: Path) -> None:
    rows = (story / "golden.jsonl").read_text().splitlines(keepends=True)
    (story / "golden.jsonl").write_text("".join(rows[:-1]))
    with assistant(story) as url:
        assert take_steps(story, url) == (2, "")


def test_the_workflow_may_do_little_and_keeps_the_report() -> None:
    job = WORKFLOW["jobs"]["gate"]
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert job["timeout-minutes"] <= 60
    assert all("ASSISTANT_KEY" not in step.get("run", "") for step in job["steps"]), "a key is no argument"
    kept = job["steps"][-1]
    assert kept["if"] == "always()"
    assert kept["with"]["path"].split() == ["runs/gate/report.html", "gate.xml"]


def test_the_script_tries_it_both_ways(story: Path) -> None:
    done = subprocess.run(
        ["bash", str(story / "run.sh")], env=environment(PORT=str(free_port())), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "exit code 0: it may go out" in done.stdout
    assert done.stdout.rstrip().endswith("exit code 3: it may not")


def test_the_page_shows_the_workflow_as_it_is() -> None:
    assert (STORY / "eval-gate.yml").read_text().rstrip() in (REPOSITORY / "docs" / "ci.md").read_text()


def test_the_golden_set_is_the_one_that_the_job_file_names() -> None:
    digest = hashlib.sha256((STORY / "golden.jsonl").read_bytes()).hexdigest()
    assert f"sha256: {digest}" in (STORY / "01-gate.yaml").read_text()
