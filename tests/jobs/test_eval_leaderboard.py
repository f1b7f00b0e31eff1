import json
from pathlib import Path

import pytest
from evaluated_runs import answers, write_run

from genai.errors import UsageError
from genai.jobs.eval_leaderboard import leaderboard
from genai.tracking.run import RunDirectory


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    rights = {"poor": [False] * 9 + [True], "good": [True] * 9 + [False], "fair": [True, False] * 5}
    for name, answered in rights.items():
        write_run(tmp_path, name, {"model": answers(answered)}, gates=["faq.token_f1 >= 0.5"])
    RunDirectory.open(tmp_path, "trained").write_result({"losses": {"after": 2.0}})
    return tmp_path


def test_the_best_comes_first(runs_dir: Path) -> None:
    (board,) = leaderboard(runs_dir=runs_dir).boards
    assert (board.dataset, board.fingerprint, board.num_examples) == ("faq", "sha256:rows", 10)
    assert [row.run for row in board.rows] == ["good", "fair", "poor"]
    assert [row.passed for row in board.rows] == [True, True, False]
    assert board.metrics == ("exact_match", "token_f1", "latency_s")
    values = [row.measured["exact_match"].value for row in board.rows]
    assert values == sorted(values, reverse=True)


def test_small_is_best_where_the_metric_says_so(runs_dir: Path) -> None:
    write_run(runs_dir, "quick", {"model": answers([True] * 2)})
    (board,) = leaderboard("faq", runs_dir=runs_dir, metric="latency_s").boards
    assert board.metric == "latency_s"
    assert board.rows[0].run == "quick"


def test_data_that_changed_has_a_board_of_its_own(runs_dir: Path) -> None:
    write_run(runs_dir, "later", {"model": answers([True] * 10)}, fingerprints={"faq": "sha256:other rows"})
    write_run(runs_dir, "sums", {"model": answers([True] * 10, name="sums")})
    boards = leaderboard(runs_dir=runs_dir).boards
    held = {(board.dataset, board.fingerprint): [row.run for row in board.rows] for board in boards}
    assert held == {
        ("faq", "sha256:rows"): ["good", "fair", "poor"],
        ("faq", "sha256:other rows"): ["later"],
        ("sums", "sha256:rows"): ["sums"],
    }
    assert [board.fingerprint for board in leaderboard("faq", runs_dir=runs_dir).boards if board.rows[0].run == "later"]


def test_a_target_may_be_called_as_the_data_is(tmp_path: Path) -> None:
    for name, content in (("first", "sha256:rows"), ("second", "sha256:other rows")):
        write_run(tmp_path, name, {"faq": answers([True] * 2)}, fingerprints={"faq": "of the index"})
        RunDirectory(tmp_path / name).write_inputs({"datasets": {"faq": {"path": "f", "fingerprint": content}}})
    boards = leaderboard("faq", runs_dir=tmp_path).boards
    assert {board.fingerprint for board in boards} == {"sha256:rows", "sha256:other rows"}


def test_all_targets_of_a_run_are_on_it_and_no_gate_is_about_the_baseline(tmp_path: Path) -> None:
    scored = {"a": answers([True] * 8), "b": answers([False] * 8), "base": answers([True, False] * 4)}
    write_run(tmp_path, "both", scored, baseline="base", gates=["cost_usd <= 1"])
    (board,) = leaderboard(runs_dir=tmp_path).boards
    assert [(row.target, row.passed) for row in board.rows] == [("a", True), ("base", None), ("b", True)]


def test_what_nobody_measured_says_what_was(runs_dir: Path) -> None:
    with pytest.raises(UsageError, match="measured the data set 'fqa'") as caught:
        leaderboard("fqa", runs_dir=runs_dir)
    assert caught.value.fix == "did you mean 'faq'?"
    with pytest.raises(UsageError, match="measured the metric 'token_f2'") as caught:
        leaderboard("faq", runs_dir=runs_dir, metric="token_f2")
    assert caught.value.fix == "did you mean 'token_f1'?"


def test_a_damaged_run_is_passed_over_and_said(runs_dir: Path) -> None:
    path = runs_dir / "fair" / "result.json"
    path.write_text(json.dumps({"kind": "eval"}))
    (runs_dir / "poor" / "result.json").write_text("{")
    boards = leaderboard(runs_dir=runs_dir)
    assert [row.run for row in boards.boards[0].rows] == ["good"]
    assert [each.partition(":")[0] for each in boards.passed_over] == ["fair", "poor"]
    json.dumps(boards.to_json(), allow_nan=False)


def test_without_runs_there_is_no_board(tmp_path: Path) -> None:
    assert leaderboard(runs_dir=tmp_path / "runs").boards == ()
