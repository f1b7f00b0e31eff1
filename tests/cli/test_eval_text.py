from dataclasses import replace
from pathlib import Path

import pytest
from evaluated_runs import answers, result_of, write_run

from genai.evaluation.records import EvalResult, Measured
from genai.jobs.eval_compare import compare
from genai.jobs.eval_leaderboard import leaderboard
from genai.tracking.run import RunDirectory
from genai_cli.eval_text import comparison_text, leaderboard_text, metrics_text, summary


@pytest.fixture
def result(tmp_path: Path) -> EvalResult:
    run = RunDirectory.open(tmp_path, "faq-eval")
    scored = {"base": answers([False] * 16), "tuned": answers([True, False] * 8)}
    return result_of(run, scored, baseline="base", gates=["faq.token_f1 >= baseline", "faq.token_f1 >= 0.9"])


def cells(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_summary_has_figures_gates_and_what_is_missing(result: EvalResult) -> None:
    text = summary(result)
    assert cells(text)[0] == [
        *("METRIC", "TARGET", "VALUE", "INTERVAL", "N", "BASELINE", "DIFFERENCE", "INTERVAL", "P"),
    ]
    row = next(line for line in cells(text) if line[:2] == ["faq.token_f1", "tuned"])
    assert row[2] == "0.5714"
    assert "+0.5714" in row
    for words in (
        "tuned on faq: 1 without an answer",
        "tuned by faq.token_f1: 1 could not be scored",
        "worst slice of faq.exact_match (tuned): topic = ",
        "faq.token_f1 >= 0.9       DOES NOT HOLD  faq.token_f1 0.571 is not >= 0.9",
        "warning: two rows were left out <script>alert(1)</script>",
        f"run     faq-eval in {result.path}",
        "took    12.5 s, 1,000 tokens, 0.04 USD",
    ):
        assert words in text, words
    assert text.count("without an answer") == 2, "once a target, not once a metric"


def test_one_target_alone_takes_few_columns(result: EvalResult) -> None:
    alone = replace(result.measured[0], comparison=None, slices=(), notes=(), num_failed=0)
    text = summary(replace(result, measured=(alone,), gates=(), warnings=(), usage={}, report="r/report.html"))
    assert cells(text)[0] == ["METRIC", "VALUE", "INTERVAL", "N"]
    assert "report  r/report.html" in text and "HOLD" not in text
    untrusted = summary(replace(result, measured=(replace(alone, trusted=False),)))
    assert "faq.exact_match *" in untrusted
    assert "* by a judge that is not calibrated: no gate may rest on it" in untrusted


def test_averages_and_figures_that_cannot_be_told(result: EvalResult) -> None:
    odd: Measured = replace(result.measured[0], value=float("nan"), low=float("nan"), high=float("nan"))
    text = summary(replace(result, measured=(odd,), averages={"tuned": {"default_average": 0.41234}}))
    assert "tuned: default_average 0.4123" in text
    assert cells(text)[1][:4] == ["faq.exact_match", "-", "-", "15"]


def test_a_comparison_names_the_examples_that_changed_most(tmp_path: Path) -> None:
    write_run(tmp_path, "a", {"m": answers([True, False] * 10)})
    write_run(tmp_path, "b", {"m": answers([True, True, False, True] * 5)})
    text = comparison_text(compare("a", "b", runs_dir=tmp_path, html=tmp_path / "diff.html"))
    assert text.startswith("a  a\nb  b\n20 examples of both")
    for words in (
        "worse in b by faq.exact_match, 5 examples:\n  q2  1 -> 0  Question 2",
        "better in b by faq.exact_match, 9 examples:\n  q1  0 -> 1  Question 1",
        "page: ",
    ):
        assert words in text, words
    row = next(line for line in cells(text) if line[:1] == ["faq.exact_match"])
    assert row[-3:] == ["9", "5", "5"]


def test_a_leaderboard_has_a_table_for_each_data_set(tmp_path: Path) -> None:
    write_run(tmp_path, "a", {"m": answers([True] * 4)}, gates=["faq.token_f1 >= 0.5"])
    write_run(tmp_path, "b", {"m": answers([True, False] * 2)}, gates=["faq.token_f1 >= 0.9"])
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "config.yaml").write_text("")
    (tmp_path / "c" / "result.json").write_text("{")
    text = leaderboard_text(leaderboard(runs_dir=tmp_path))
    lines = cells(text)
    assert text.startswith("faq (4 examples, sha256:rows), by exact_match:")
    assert lines[2][:4] == ["1", "a", "m", "1.0000"]
    assert lines[3][:4] == ["2", "b", "m", "0.5000"]
    assert "hold" in lines[2] and "do not hold" in text
    assert "passed over c: " in text
    assert leaderboard_text(leaderboard(runs_dir=tmp_path / "none")) == "nothing was evaluated yet"


def test_metrics_are_listed_with_what_they_are_for() -> None:
    listed = [
        {"name": "token_f1", "what": "words in common", "kinds": ["generation"], "higher": True},
        {"name": "latency_s", "what": "seconds", "kinds": [], "higher": False},
    ]
    assert cells(metrics_text(listed))[1:] == [
        ["token_f1", "up", "generation", "words", "in", "common"],
        ["latency_s", "down", "all", "seconds"],
    ]
