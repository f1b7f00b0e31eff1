import logging
import math
import subprocess
import sys
from pathlib import Path

import pytest

from genai.tracking.metrics import MetricsLog, last_values, read_metrics, series


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_records_are_read_back_in_order_with_their_position(path: Path) -> None:
    log = MetricsLog(path)
    log.log(1, {"loss/train": 2.5}, epoch=0, tokens=512, time_s=0.5)
    log.log(2, {"loss/train": 2.25, "lr": 1e-4}, epoch=0, tokens=1024, time_s=1.0)
    log.close()
    assert read_metrics(path) == [
        {"step": 1, "epoch": 0, "tokens": 512, "time_s": 0.5, "loss/train": 2.5},
        {"step": 2, "epoch": 0, "tokens": 1024, "time_s": 1.0, "loss/train": 2.25, "lr": 1e-4},
    ]


def test_every_line_is_json_whatever_the_number(path: Path) -> None:
    log = MetricsLog(path)
    log.log(1, {"a": math.nan, "b": math.inf, "c": -math.inf})
    log.close()
    assert path.read_text() == '{"step": 1, "a": "NaN", "b": "Infinity", "c": "-Infinity"}\n'
    (record,) = read_metrics(path)
    assert math.isnan(record["a"])
    assert (record["b"], record["c"]) == (math.inf, -math.inf)


def test_a_line_is_on_disk_as_soon_as_it_is_logged(path: Path) -> None:
    code = (
        "import os, sys, pathlib; from genai.tracking.metrics import MetricsLog\n"
        "log = MetricsLog(pathlib.Path(sys.argv[1])); log.log(1, {'a': 1}); log.log(2, {'a': 2})\n"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -9
    assert [record["step"] for record in read_metrics(path)] == [1, 2]


def test_a_torn_last_line_is_passed_over_and_cut_off_by_the_next_writer(path: Path, caplog) -> None:
    path.write_text('{"step": 1, "a": 1.0}\n{"step": 2, "a"')
    with caplog.at_level(logging.WARNING, logger="genai"):
        assert [record["step"] for record in read_metrics(path)] == [1]
    assert not caplog.records
    log = MetricsLog(path)
    log.log(2, {"a": 2.0})
    log.close()
    assert path.read_text() == '{"step": 1, "a": 1.0}\n{"step": 2, "a": 2.0}\n'


@pytest.mark.parametrize("line", ["{", "[1]", "7", '{"no_step": 1}', '{"step": "x"}', '{"step": null}', "\x00\x00"])
def test_a_damaged_line_is_passed_over_with_a_warning(path: Path, line: str, caplog) -> None:
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    with caplog.at_level(logging.WARNING, logger="genai"):
        assert [record["step"] for record in read_metrics(path)] == [1, 3]
    assert f"{path}:2:" in caplog.text


def test_truncate_removes_what_a_resumed_run_will_tell_again(path: Path) -> None:
    log = MetricsLog(path)
    for step in range(1, 6):
        log.log(step, {"a": float(step)})
    log.truncate_after(3)
    log.log(4, {"a": 40.0})
    log.close()
    assert [(record["step"], record["a"]) for record in read_metrics(path)] == [(1, 1), (2, 2), (3, 3), (4, 40)]


def test_truncating_after_the_end_changes_nothing(path: Path) -> None:
    log = MetricsLog(path)
    log.log(1, {"a": 1.0})
    before = path.stat().st_ino
    log.truncate_after(1)
    log.close()
    assert path.stat().st_ino == before


def test_no_file_no_records(path: Path) -> None:
    assert read_metrics(path) == []
    assert last_values(path) == {}


def test_last_values_are_the_newest_of_each_metric(path: Path) -> None:
    log = MetricsLog(path)
    for step in range(1, 8000):
        log.log(step, {"loss/train": 1 / step, "padding": 0.123456789})
    log.log(7999, {"loss/eval": 2.0})
    log.close()
    assert path.stat().st_size > 1 << 18
    assert last_values(path) == {"step": 7999, "loss/train": 1 / 7999, "padding": 0.123456789, "loss/eval": 2.0}


def test_a_point_told_twice_counts_as_told_last() -> None:
    records = [{"step": 1, "a": 1.0}, {"step": 2, "b": 5.0}, {"step": 2, "a": 2.0}, {"step": 2, "a": 3.0}]
    assert series(records, "a") == [(1, 1.0), (2, 3.0)]
    assert series(records, "a", over="tokens") == []
