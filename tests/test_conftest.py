"""The promises of conftest.py."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

REPOSITORY = Path(__file__).resolve().parents[1]


def test_other_machines_are_out_of_reach() -> None:
    with socket.socket() as connection, pytest.raises(OSError, match="must not connect to"):
        connection.connect(("192.0.2.1", 80))


def test_this_machine_is_within_reach() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as connection:
        connection.connect(server.getsockname())


def test_no_hub_no_credentials_no_telemetry() -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert os.environ["DO_NOT_TRACK"] == "1"
    assert not [name for name in os.environ if name.startswith("AWS_") or name == "HF_TOKEN"]


@pytest.mark.parametrize(("ci", "outcome"), [("true", "failed"), ("", "skipped")])
def test_a_missing_program_is_a_failure_on_ci_only(
    ci: str, outcome: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    pytester.makeconftest((REPOSITORY / "tests" / "conftest.py").read_text())
    pytester.makeini(f"[pytest]\nmarkers = needs\npythonpath = {REPOSITORY}/tests/plugins\n")
    pytester.makepyfile("import pytest\n@pytest.mark.needs('no-such-program')\ndef test_it(): pass\n")
    result = pytester.runpytest_subprocess("-rsf")
    count = result.parseoutcomes()
    assert count.get(outcome, count.get("errors" if outcome == "failed" else "")) == 1
    result.stdout.fnmatch_lines(["*needs no-such-program: `make test-deps` installs it*"])
