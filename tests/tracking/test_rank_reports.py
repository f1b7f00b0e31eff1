"""How a rank's failure travels to its launcher, and which of several is told."""

from __future__ import annotations

import errno
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from genai.errors import ConfigError, DataError, GenaiError, Problem, StoppedError
from genai.tracking.rank_reports import (
    FOLDER,
    Failure,
    RankLostError,
    Reporter,
    describe,
    first_failure,
    is_lost,
    pids,
    read_result,
)


def write(folder: Path, *failures: Failure) -> None:
    for failure in failures:
        (folder / f"rank-{failure.rank}.json").write_text(json.dumps(asdict(failure)))


def travelled(error: BaseException, rank: int = 0) -> Exception:
    """The error as the launcher raises it, by way of JSON."""
    return Failure(**json.loads(json.dumps(asdict(describe(error, rank=rank))))).error()


def test_every_problem_of_an_error_arrives() -> None:
    problems = [Problem(message="bad", where="a.yaml:3:1", fix="mend"), Problem(message="worse")]
    arrived: Any = travelled(ConfigError(problems))
    assert isinstance(arrived, GenaiError)
    assert (arrived.exit_code, arrived.code) == (2, "config")
    assert arrived.problems == tuple(problems)


def test_another_rank_than_the_first_is_named() -> None:
    assert str(travelled(DataError("row 7 is broken"), rank=3)) == "rank 3: row 7 is broken"


def test_a_stop_keeps_its_signal() -> None:
    arrived = travelled(StoppedError("stopped by SIGTERM", signal_number=15, fix="go on"))
    assert isinstance(arrived, StoppedError)
    assert (arrived.exit_code, arrived.fix) == (143, "go on")


def test_errors_of_the_system_keep_their_kind() -> None:
    full = travelled(OSError(errno.ENOSPC, "No space left on device", "/data/x"))
    assert isinstance(full, OSError)
    assert (full.errno, full.filename) == (errno.ENOSPC, "/data/x")
    assert isinstance(travelled(PermissionError(errno.EACCES, "Permission denied", "/x")), PermissionError)
    assert isinstance(travelled(MemoryError()), MemoryError)
    interrupted: Any = travelled(KeyboardInterrupt())
    assert interrupted.exit_code == 130


def test_a_bug_keeps_its_traceback() -> None:
    try:
        raise ZeroDivisionError("oh")
    except ZeroDivisionError as error:
        arrived = travelled(error)
    assert "test_rank_reports.py" in arrived.__notes__[0]


def test_the_loss_of_another_rank_is_never_the_cause(tmp_path: Path) -> None:
    lost = replace(describe(RuntimeError("Connection closed by peer"), rank=0), time=1.0)
    own = replace(describe(DataError("row 7"), rank=1), time=2.0)
    assert lost.kind == "lost"
    write(tmp_path, lost)
    assert first_failure(tmp_path) is None
    write(tmp_path, own)
    assert first_failure(tmp_path) == own


def test_the_first_failure_is_told_and_one_that_all_have_as_rank_0s(tmp_path: Path) -> None:
    failures = [replace(describe(DataError("row 7"), rank=rank), time=5.0 - rank) for rank in range(3)]
    write(tmp_path, *failures)
    assert first_failure(tmp_path) == failures[0]
    write(tmp_path, replace(describe(DataError("row 9"), rank=1), time=0.5))
    first = first_failure(tmp_path)
    assert first is not None
    assert first.message == "row 9"


def test_what_counts_as_a_lost_rank() -> None:
    assert is_lost(RankLostError("gone"))
    assert is_lost(RuntimeError("[..third_party/gloo/..] timed out"))
    assert not is_lost(RuntimeError("shape mismatch"))
    assert not is_lost(DataError("the word gloo"))


def test_without_a_launcher_a_failure_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter.from_environment({"RANK": "2"})
    reporter.begin()
    assert not reporter.result({})
    assert reporter.fail(DataError("row 7")) == 1
    assert reporter.fail(RuntimeError("told once")) == 1
    assert "error: [rank 2] row 7" in capsys.readouterr().err
    reporter.wait_for_main()


def test_with_one_it_is_a_file(tmp_path: Path) -> None:
    main = Reporter.from_environment({"RANK": "0", FOLDER: str(tmp_path)})
    assert main.result({"run": "faq"})
    assert read_result(tmp_path) == {"run": "faq"}
    assert main.fail(DataError("row 7")) == 1
    Reporter(folder=tmp_path, rank=1).wait_for_main()
    assert pids(tmp_path) == []
    assert read_result(tmp_path / "elsewhere") is None
