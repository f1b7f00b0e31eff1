from __future__ import annotations

import json
import math
import os
import pty
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from genai_cli.output import Output, format_table


@dataclass(frozen=True)
class Point:
    x: float
    where: Path


def test_a_result_is_text_or_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"point": Point(math.nan, Path("a/b")), "shares": (0.5, math.inf), "name": "Zoë", "none": None, "n": 3}
    Output().result("all done", data)
    assert capsys.readouterr().out == "all done\n"
    Output(as_json=True).result("all done", data)
    assert json.loads(capsys.readouterr().out) == {
        "schema_version": 1,
        "point": {"x": None, "where": "a/b"},
        "shares": [0.5, None],
        "name": "Zoë",
        "none": None,
        "n": 3,
    }


def test_a_result_may_be_something_rich_renders(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.padding import Padding

    Output().result(Padding("indented", (0, 0, 0, 4)), {})
    assert capsys.readouterr().out.startswith("    indented")


def test_a_table_is_aligned() -> None:
    rows = [["a-run", 12, "-8.1%", None], ["b", 3.14159, "+12.0%", "x\x1b[1m\ny"]]
    assert format_table(["name", "steps", "change", "note"], rows).splitlines() == [
        "NAME   STEPS  CHANGE  NOTE",
        "a-run     12   -8.1%  -",
        "b      3.142  +12.0%  x[1m y",
    ]


def test_an_empty_table_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(["name"], [], {"runs": []}, empty="no runs")
    assert capsys.readouterr().out == "no runs\n"
    Output(as_json=True).table(["name"], [], {"runs": []}, empty="no runs")
    assert json.loads(capsys.readouterr().out) == {"schema_version": 1, "runs": []}


LOGS = """
import logging, time
from genai_cli.output import Output
from genai.log import get_logger, progress
Output({flags}).start()
log = get_logger("training")
with progress("training", 4) as outer, progress("saving") as inner:
    for step in range(5):
        outer.update(step, loss=f"{{2 - step / 10:.2f}}")
        log.info("at step %d", step)
        inner.update(step)
log.debug("fine detail")
log.warning("careful")
print("result")
"""


def _run(flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key not in ("CI", "NO_COLOR")}
    script = LOGS.format(flags=flags)
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={**clean, **environment}
    )


def test_logs_and_progress_go_to_stderr_as_lines() -> None:
    done = _run("")
    assert done.stdout == "result\n"
    lines = done.stderr.splitlines()
    assert lines[:5] == [f"at step {step}" for step in range(5)]
    assert lines[5:] == ["careful"], "what is done in a moment needs no progress line"
    assert "\x1b" not in done.stderr


def test_quiet_leaves_warnings() -> None:
    assert _run("quiet=True").stderr == "careful\n"


def test_debug_names_the_logger() -> None:
    assert "DEBUG genai.training: fine detail" in _run("debug=True").stderr


def _run_on_a_terminal(**environment: str) -> tuple[str, str]:
    """What the script writes to stdout (a pipe) and to stderr (a terminal)."""
    leader, follower = pty.openpty()
    clean = {key: value for key, value in os.environ.items() if key not in ("CI", "NO_COLOR")}
    env: dict[str, Any] = {**clean, "TERM": "xterm", "COLUMNS": "100", **environment}
    process = subprocess.Popen(
        [sys.executable, "-c", LOGS.format(flags="")], stdout=subprocess.PIPE, stderr=follower, text=True, env=env
    )
    os.close(follower)
    written = b""
    while True:
        try:
            chunk = os.read(leader, 65536)
        except OSError:  # Linux says EIO when the other side is closed
            break
        if not chunk:
            break
        written += chunk
    out, _ = process.communicate(timeout=30)
    os.close(leader)
    return out, written.decode()


def test_a_terminal_gets_bars_and_whole_log_lines() -> None:
    out, err = _run_on_a_terminal()
    assert out == "result\n"
    assert "100%" in err
    assert "loss 1.60" in err
    assert "━" in err
    assert "at step 3" in err
    assert "careful" in err


def test_no_colour_no_bars_on_ci() -> None:
    assert "\x1b[3" not in _run_on_a_terminal(NO_COLOR="1")[1]
    assert "━" not in _run_on_a_terminal(CI="true")[1]
