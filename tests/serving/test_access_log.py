from __future__ import annotations

import json
import logging
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from serving_http import wait_until

from genai.errors import UsageError
from genai.serving.access_log import AccessLog, Entry


def entry(**changes: Any) -> Entry:
    values: dict[str, Any] = {
        "time": datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC),
        "id": "1",
        "app": "a",
        "method": "POST",
        "path": "/v1/completions",
        "status": 200,
        "duration_s": 0.123456789,
        "num_bytes": 5,
        "client": "127.0.0.1",
    }
    return Entry(**{**values, **changes})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_entry_is_a_line(tmp_path: Path) -> None:
    log = AccessLog(str(tmp_path / "logs" / "access.log"))
    log.write(entry(user_agent='curl\n"1"', finish_reasons=["stop"]))
    wait_until(lambda: (tmp_path / "logs" / "access.log").stat().st_size > 0)
    log.close()
    (line,) = lines(tmp_path / "logs" / "access.log")
    assert line == {
        "time": "2026-01-02T03:04:05.678000Z",
        "id": "1",
        "app": "a",
        "method": "POST",
        "path": "/v1/completions",
        "status": 200,
        "duration_s": 0.123457,
        "num_bytes": 5,
        "client": "127.0.0.1",
        "user_agent": 'curl\n"1"',
        "finish_reasons": ["stop"],
    }


def test_nothing_is_lost_among_threads_and_at_the_end(tmp_path: Path) -> None:
    log = AccessLog(str(tmp_path / "log"))
    threads = [
        threading.Thread(target=lambda: [log.write(entry(status=number)) for number in range(2000)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert sorted(line["status"] for line in lines(tmp_path / "log")) == sorted(list(range(2000)) * 4)


def test_a_moved_file_is_begun_anew(tmp_path: Path) -> None:
    log = AccessLog(str(tmp_path / "log"))
    log.write(entry(id="old"))
    log.flush()
    (tmp_path / "log").rename(tmp_path / "log.1")
    log.reopen()
    log.write(entry(id="new"))
    log.close()
    assert [line["id"] for line in lines(tmp_path / "log.1")] == ["old"]
    assert [line["id"] for line in lines(tmp_path / "log")] == ["new"]


def test_it_can_be_off() -> None:
    log = AccessLog("off")
    assert not log.is_on
    log.reopen()
    log.close()


def test_stderr_by_default(capfd: pytest.CaptureFixture[str]) -> None:
    log = AccessLog(None)
    log.write(entry(id="here"))
    log.close()
    assert json.loads(capfd.readouterr().err)["id"] == "here"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="the access log cannot be written"):
        AccessLog(str(tmp_path / "file" / "log"))


def test_a_full_disk_loses_lines_and_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("genai"), "propagate", True)
    log = AccessLog("/dev/full")
    for _ in range(3):
        log.write(entry())
        log.flush()
    log.close()
    assert log.num_lost == 3
    told = {id(record) for record in caplog.records if "lines of the access log are lost" in record.message}
    assert len(told) == 1


def test_a_line_that_was_cut_off_does_not_spoil_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AccessLog(str(tmp_path / "log"))
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:20]))
    log.write(entry(id="cut"))
    log.flush()
    monkeypatch.setattr(os, "write", write)
    log.write(entry(id="whole"))
    log.close()
    assert log.num_lost == 1
    assert json.loads((tmp_path / "log").read_text().splitlines()[-1])["id"] == "whole"
