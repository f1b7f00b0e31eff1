"""`genai eval` as a process that asks an endpoint over HTTP: kills, signals, exit codes, judges that fail."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai_upstream import Raw, Upstream, openai_upstream, said

pytestmark = pytest.mark.integration

NUM, AT_ONCE = 60, 4
_CODE = "import sys\nfrom genai_cli.main import main\nsys.exit(main())"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Answers sums, a few tenths of a second each where a test says so."""
    with openai_upstream() as server:
        server.answer = lambda body: said(str(2 * int(re.findall(r"\d+", asked(body))[0])))
        yield server


def asked(body: Any) -> str:
    """The last message of a request."""
    return str(body["messages"][-1]["content"])


def write(folder: Path, upstream: Upstream, **values: Any) -> None:
    rows = [
        {"id": str(row), "prompt": f"What is {row} plus {row}?", "reference": str(2 * row)} for row in range(1, NUM + 1)
    ]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    target = {"endpoint": upstream.url, "model": "adder", "api_key": "env:ADDER_KEY", "concurrency": AT_ONCE}
    config = {
        "target": target,
        "datasets": [{"name": "sums", "path": "data.jsonl"}],
        "metrics": ["exact_match"],
        "statistics": {"num_resamples": 1000},
        **values,
    }
    (folder / "job.yaml").write_text(json.dumps(config))


def start(folder: Path, *words: str, code: str = _CODE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, "eval", "job.yaml", "--run-name", "sums", *words],
        cwd=folder,
        env={**os.environ, "ADDER_KEY": "key-of-the-adder-123", "GENAI_CACHE": str(folder / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, told = process.communicate(timeout=120)
    assert process.returncode == code, (process.returncode, out, told)
    return out, told


def wait_for(upstream: Upstream, num: int) -> None:
    deadline = time.monotonic() + 60
    while len(upstream.requests) < num:
        assert time.monotonic() < deadline, len(upstream.requests)
        time.sleep(0.01)


def test_an_endpoint_is_measured_without_torch(tmp_path: Path, upstream: Upstream) -> None:
    """With nothing but the packages of the extra `eval`."""
    absent = ("torch", "transformers", "msgspec", "tokenizers", "huggingface_hub", "pyarrow", "deltalake", "lm_eval")
    prelude = f"""import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""
    write(tmp_path, upstream)
    end(start(tmp_path, code=prelude + _CODE))
    result = json.loads((tmp_path / "runs/sums/result.json").read_text())
    assert result["measured"][0]["value"] == 1.0


def test_killed_it_asks_only_for_what_was_in_flight(tmp_path: Path, upstream: Upstream) -> None:
    write(tmp_path, upstream)
    upstream.delay_s = 0.2
    process = start(tmp_path)
    wait_for(upstream, 30)
    process.kill()
    process.communicate(timeout=60)
    upstream.delay_s = 0.0
    end(start(tmp_path))
    # Those that were in flight, and those whose answer was on its way to the disk.
    assert NUM <= len(upstream.requests) <= NUM + 2 * AT_ONCE
    (folder,) = (tmp_path / "runs").iterdir()
    result = json.loads((folder / "result.json").read_text())
    assert (result["measured"][0]["value"], result["measured"][0]["num"]) == (1.0, NUM)


def test_a_signal_lets_answers_come_in_and_keeps_them(tmp_path: Path, upstream: Upstream) -> None:
    write(tmp_path, upstream)
    upstream.delay_s = 0.2
    process = start(tmp_path)
    wait_for(upstream, 20)
    process.send_signal(signal.SIGTERM)
    _, told = end(process, 143)
    assert "was stopped (start it again: it goes on where it was)" in told
    assert json.loads((tmp_path / "runs/sums/status.json").read_text())["status"] == "stopped"
    upstream.delay_s = 0.0
    end(start(tmp_path))
    assert len(upstream.requests) == NUM


def test_two_at_once_do_not_share_a_run(tmp_path: Path, upstream: Upstream) -> None:
    write(tmp_path, upstream)
    upstream.delay_s = 0.3
    first = start(tmp_path)
    wait_for(upstream, 4)
    try:
        _, told = end(start(tmp_path), 1)
        assert f"run 'sums' is held by process {first.pid}" in told
    finally:
        end(first)
    assert len(upstream.requests) == NUM


def test_a_gate_that_does_not_hold_is_exit_code_3(tmp_path: Path, upstream: Upstream) -> None:
    write(tmp_path, upstream, gates=["sums.exact_match >= 0.5", "cost_usd <= 0.01"])
    out, _ = end(start(tmp_path))
    assert "holds" in out
    upstream.answer = lambda body: said("no idea")
    write(tmp_path, upstream, gates=["sums.exact_match >= 0.5"])
    out, told = end(start(tmp_path), 3)
    assert "DOES NOT HOLD" in out
    assert "sums.exact_match 0.000 is not >= 0.5" in told
    out, _ = end(start(tmp_path, "--json"), 3)
    found = json.loads(out)
    assert (found["passed"], found["gates"][0]["passed"]) == (False, False)


def test_what_the_endpoint_refuses(tmp_path: Path, upstream: Upstream) -> None:
    write(tmp_path, upstream)
    refused = {"error": {"message": "Incorrect API key provided: key-of-the-adder-123"}}
    upstream.answer = lambda body: Raw(status=401, content=json.dumps(refused).encode())
    _, told = end(start(tmp_path), 4)
    assert "key-of-the-adder" not in told
    assert "refused the key: HTTP 401: Incorrect API key provided: ***" in told
    log = "".join(path.read_text(errors="replace") for path in (tmp_path / "runs").rglob("*") if path.is_file())
    assert "key-of-the-adder" not in log


def test_a_judge_that_fails_is_told_and_never_a_score(tmp_path: Path, upstream: Upstream) -> None:
    """Every third verdict is nonsense, every third an error; the others are 5 of 1 to 5."""

    def answer(body: Any) -> Any:
        if body["model"] == "adder":
            return said("4")
        number = int(re.findall(r"What is (\d+)", json.dumps(body))[0])
        if number % 3 == 0:
            return said("I would rather not say.")
        return Raw(status=500) if number % 3 == 1 else said(json.dumps({"reason": "right", "score": 5}))

    upstream.answer = answer
    judge = {"model": "judge", "endpoint": upstream.url, "max_attempts": 2}
    write(tmp_path, upstream, metrics=["judge"], judges={"gpt": judge})
    end(start(tmp_path))
    result = json.loads((tmp_path / "runs/sums/result.json").read_text())
    (measured,) = result["measured"]
    assert (measured["value"], measured["num"], measured["num_unscored"]) == (1.0, NUM // 3, NUM - NUM // 3)
    assert not measured["trusted"]
    assert any("not scored" in note for note in measured["notes"])


@pytest.mark.parametrize(("agrees", "code"), [(True, 0), (False, 3)])
def test_a_judge_decides_a_gate_only_where_it_agrees_with_people(
    tmp_path: Path, upstream: Upstream, agrees: bool, code: int
) -> None:
    """One judge scores as people do, the other the other way round; both find all answers of the target perfect."""

    def answer(body: Any) -> Any:
        if body["model"] == "adder":
            return said("four")
        found = re.search(r"answer number (\d+)", json.dumps(body))
        score = 5 if found is None else 1 + int(found[1]) % 5
        return said(json.dumps({"reason": "so it is", "score": score if agrees or found is None else 6 - score}))

    upstream.answer = answer
    people = [
        {"prompt": "Well?", "answer": f"answer number {row}", "reference": "4", "score": 1 + row % 5}
        for row in range(30)
    ]
    (tmp_path / "people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in people))
    judge = {"model": "judge", "endpoint": upstream.url, "calibration": {"path": "people.jsonl"}}
    write(tmp_path, upstream, metrics=["judge"], judges={"gpt": judge}, gates=["sums.judge >= 0.9"])
    _, told = end(start(tmp_path), code)
    assert ("agrees with people" in told) == agrees
    (calibration,) = json.loads((tmp_path / "runs/sums/calibration.json").read_text())
    assert (calibration["passed"], calibration["num"]) == (agrees, 30)
    result = json.loads((tmp_path / "runs/sums/result.json").read_text())
    assert (result["measured"][0]["value"], result["measured"][0]["trusted"]) == (1.0, agrees)
