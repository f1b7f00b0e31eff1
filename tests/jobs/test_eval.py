"""`genai eval` on answers that were logged: no model, no server, everything else."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from genai.config.eval import EvalConfig
from genai.config.loading import Loaded, load
from genai.errors import ConfigError, GateError, GenaiError
from genai.evaluation.files import read_examples, read_result
from genai.evaluation.records import EvalResult
from genai.jobs import eval as job
from genai.jobs.eval_plan import make_plan

NUM = 40
Write = Callable[..., Loaded[EvalConfig]]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a job file with 40 rows, of which `good` answers 30 and `bad` 10."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {"id": str(row), "prompt": f"What is {row} plus {row}?", "reference": str(2 * row), "half": str(row % 2)}
        for row in range(NUM)
    ]
    lines("data.jsonl", rows)
    for name, right in (("good", 30), ("bad", 10)):
        lines(f"{name}.jsonl", [{"id": row["id"], "answer": said(row, right)} for row in rows])

    def written(**values: Any) -> Loaded[EvalConfig]:
        config = {
            "target": {"file": "good.jsonl"},
            "datasets": [{"name": "sums", "path": "data.jsonl"}],
            "metrics": ["exact_match"],
            "statistics": {"num_resamples": 1000},
            **values,
        }
        (tmp_path / "job.yaml").write_text(json.dumps(config))
        return load(tmp_path / "job.yaml", EvalConfig)

    return written


def said(row: dict[str, str], right: int) -> str:
    return row["reference"] if int(row["id"]) < right else "no idea"


def lines(path: str, rows: Sequence[dict[str, Any]]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


def only(result: EvalResult, target: str, metric: str = "exact_match") -> Any:
    (found,) = [each for each in result.measured if each.target == target and each.metric == metric]
    return found


def test_a_target_is_measured_beside_its_baseline(write: Write) -> None:
    result = job.run(
        write(
            baseline={"file": "bad.jsonl"},
            gates=["sums.exact_match >= 0.7", "exact_match > baseline + 0.3", "exact_match significantly better"],
            junit="junit.xml",
        )
    )
    found = only(result, "good")
    assert (found.value, found.num) == (0.75, NUM)
    assert found.low < 0.75 < found.high
    assert found.comparison is not None
    assert (found.comparison.baseline, found.comparison.difference) == (0.25, 0.5)
    assert (found.comparison.wins, found.comparison.losses, found.comparison.ties) == (20, 0, 20)
    assert found.comparison.p_value < 0.01
    assert only(result, "bad").comparison is None
    assert [gate.passed for gate in result.gates] == [True, True, True]
    job.check_gates(result)

    folder = Path(result.path)
    assert read_result(folder / "result.json") == result
    rows = read_examples(folder / "examples.jsonl")
    assert len(rows) == 2 * NUM
    page = (folder / "report.html").read_text()
    assert "sums.exact_match" in page
    assert len(ElementTree.parse("junit.xml").findall(".//testcase")) == 3
    inputs = json.loads((folder / "inputs.json").read_text())
    assert inputs["datasets"]["sums"]["fingerprint"] == result.fingerprints["sums"]
    assert set(inputs["targets"]) == {"good", "bad"}


def test_a_gate_that_does_not_hold_ends_with_3_and_everything_is_written(write: Write) -> None:
    result = job.run(write(gates=["exact_match >= 0.9"]))
    assert not result.passed
    with pytest.raises(GateError, match=r"1 of 1 gates do not hold: exact_match >= 0\.9: .*0\.750 is not >= 0\.9"):
        job.check_gates(result)
    assert (Path(result.path) / "report.html").is_file()
    assert not read_result(Path(result.path) / "result.json").passed


def test_each_evaluation_is_a_run_of_its_own(write: Write) -> None:
    names = [job.run(write(), run_name="sums").run for _ in range(3)]
    assert names == ["sums", "sums-2", "sums-3"]


def test_an_earlier_run_is_the_baseline(write: Write) -> None:
    job.run(write(target={"file": "bad.jsonl"}), run_name="before")
    result = job.run(write(baseline="runs:before", gates=["exact_match >= baseline + 0.4"]))
    comparison = only(result, "good").comparison
    assert (comparison.baseline, comparison.difference, comparison.num) == (0.25, 0.5, NUM)
    assert result.passed
    assert json.loads((Path(result.path) / "inputs.json").read_text())["baseline"] == {"run": "before"}


def test_an_earlier_run_that_is_called_like_a_target(write: Write) -> None:
    job.run(write(target={"file": "bad.jsonl"}), run_name="faq")
    result = job.run(write(target=None, targets={"faq": {"file": "good.jsonl"}}, baseline="runs:faq"))
    assert (result.targets, result.baseline) == (("faq",), "baseline")
    assert (only(result, "faq").value, only(result, "baseline").value) == (0.75, 0.25)
    assert only(result, "faq").comparison.difference == 0.5


def test_an_earlier_run_of_other_rows_is_no_baseline(write: Write) -> None:
    job.run(write(target={"file": "bad.jsonl"}), run_name="before")
    with Path("data.jsonl").open("a") as file:
        file.write(json.dumps({"id": "more", "prompt": "?", "reference": "!", "half": "0"}) + "\n")
    with pytest.raises(ConfigError, match="data set 'sums' is not what run 'before' measured"):
        job.run(write(baseline="runs:before"))


def test_slices_are_told_worst_first(write: Write) -> None:
    result = job.run(write(datasets=[{"name": "sums", "path": "data.jsonl", "slices": ["half"], "limit": 33}]))
    slices = only(result, "good").slices
    assert {each.value for each in slices} == {"0", "1"}
    assert slices[0].measured <= slices[1].measured
    assert sum(each.num for each in slices) == 33


def test_several_targets_each_hold_the_gates_or_not(write: Write) -> None:
    targets = {"one": {"file": "good.jsonl"}, "two": {"file": "bad.jsonl"}}
    result = job.run(write(target=None, targets=targets, gates=["exact_match >= 0.5"]))
    assert result.targets == ("one", "two")
    assert {gate.target: gate.passed for gate in result.gates} == {"one": True, "two": False}


def test_rows_without_an_answer_are_counted_and_never_scored(write: Write) -> None:
    rows = [json.loads(line) for line in Path("good.jsonl").read_text().splitlines()]
    lines("good.jsonl", [*rows[:28], *({"id": row["id"], "error": "HTTP 500"} for row in rows[28:])])
    with pytest.raises(GenaiError, match="gave no answer to 3 of 40 examples, more than max_failures allows"):
        job.run(write())
    found = only(job.run(write(max_failures=0.5)), "good")
    assert (found.value, found.num, found.num_failed) == (1.0, 28, 12)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"gates": ["sums.exact_macth > 0.5"]},
            r"'sums\.exact_macth', which is not measured .did you mean 'sums\.exact_match'",
        ),
        ({"gates": ["exact_match > baseline"]}, "compares with a baseline, and there is none"),
        ({"metrics": ["perplexity"]}, "'perplexity' is for data of kind .*text"),
        ({"metrics": ["exact_mach"]}, "did you mean 'exact_match'"),
        ({"metrics": ["exact_match", "exact_match"]}, "'exact_match' is measured twice"),
        ({"datasets": [{"name": "sums", "path": "dta.jsonl"}]}, r"dta\.jsonl"),
        ({"datasets": [{"name": "sums", "path": "data.jsonl", "sha256": "00000000"}]}, "sha256"),
        ({"datasets": [{"name": "sums", "path": "data.jsonl", "slices": ["hlf"]}]}, "did you mean 'half'"),
        ({"metrics": ["judge"]}, "judge"),
        ({"target": {"model": "gallery:no-such-model"}}, "no-such-model"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_asked(write: Write, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        job.run(write(**values))
    assert not Path("runs").exists()


def test_the_plan_writes_nothing(write: Write) -> None:
    plan = make_plan(write(gates=["exact_match >= 0.5"]))
    assert plan.datasets["sums"]["examples"] == NUM
    assert plan.datasets["sums"]["metrics"] == ["exact_match"]
    assert f"sha256 {plan.datasets['sums']['sha256']}" in plan.text()
    assert not Path("runs").exists()


def test_rows_that_were_trained_on_are_left_out(write: Write) -> None:
    question = "how many millimetres of screed lie above the pipes of a heated floor in a bathroom"
    lines("data.jsonl", [{"id": "a", "prompt": question, "reference": "60"}, {"id": "b", "prompt": "Why?"}])
    lines("train.jsonl", [{"prompt": f"Tell me: {question}?", "response": "60"}])
    lines("good.jsonl", [{"id": "a", "answer": "60"}, {"id": "b", "answer": "Because."}])
    contamination = {"training": "train.jsonl", "action": "exclude"}
    result = job.run(write(metrics=["output_tokens", "refusal"], contamination=contamination))
    assert result.num_examples == {"sums": 1}
    assert "1 of 1 examples" in result.warnings[0]
    with pytest.raises(GateError, match=r"sums a \(100%"):
        job.run(write(metrics=["refusal"], contamination={**contamination, "action": "fail"}))
