import html
import re
from dataclasses import replace
from pathlib import Path

import pytest
from evaluated_runs import HOSTILE, answers, result_of

from genai.config.eval import EvalConfig
from genai.config.loading import Loaded, load
from genai.jobs import eval_report
from genai.jobs.eval_rows import measure_rows
from genai.tracking.run import RunDirectory


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded[EvalConfig]:
    path = tmp_path / "faq.yaml"
    path.write_text("target: {file: tuned.jsonl}\ndatasets: [{name: faq, path: faq.jsonl}]\n")
    return load(path, EvalConfig)


def text_of(markup: str) -> str:
    """What a page says, without its markup."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", markup, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_everything_that_was_found_is_in_the_report(tmp_path: Path, loaded: Loaded[EvalConfig]) -> None:
    run = RunDirectory.open(tmp_path, "faq-eval")
    scored = {"base": answers([False] * 16), "tuned": answers([True, False] * 8)}
    gates = ["faq.token_f1 >= baseline", "faq.token_f1 >= 0.9", "cost_usd <= 1"]
    result = result_of(run, scored, baseline="base", gates=gates, fingerprints={"faq": "sha256:0123"})
    eval_report.write(run, loaded, result, {"tuned": scored["tuned"]}, scored["base"])
    markup = run.report.read_text(encoding="utf-8")
    headings = re.findall(r"<h2>(.*?)</h2>", markup)
    expected = ["Gates", "Result", "Differences", "Slices", "Failures", "Data", "Cost", "Examples", "Origin"]
    assert headings == expected
    said = text_of(markup)
    for words in (
        "genai eval faq-eval failed",
        "1 of 3 gates does not hold faq.token_f1",
        "tuned · beside base · faq",
        "base (baseline) tuned",
        "No answer (2)",
        "HTTP 500: " + HOSTILE,
        "Not scored (2)",
        "data set faq 16 examples, sha256:0123",
        "two rows were left out " + HOSTILE,
        "tuned 400 100 $0.02",
        "worst topic",
        "on questions that a model made",
        "token_f1 1 won",
        "topic = roofs",
        "synthetic",
    ):
        assert words in said, words


def test_the_baseline_is_shown_once_where_it_is_among_the_targets(tmp_path: Path, loaded: Loaded[EvalConfig]) -> None:
    run = RunDirectory.open(tmp_path, "faq-eval")
    scored = {"base": answers([False] * 4), "tuned": answers([True] * 4)}
    result = result_of(run, scored, baseline="base")
    eval_report.write(run, loaded, result, scored, scored["base"])
    both = run.report.read_text(encoding="utf-8")
    eval_report.write(run, loaded, result, {"tuned": scored["tuned"]}, scored["base"])
    assert run.report.read_text(encoding="utf-8") == both
    assert text_of(both).count("no answer") == 0
    assert "All 0 gates" not in both and "genai eval faq-eval done" in text_of(both)


def test_what_a_judge_may_not_decide_is_marked(tmp_path: Path) -> None:

    run = RunDirectory.open(tmp_path, "faq-eval")
    result = result_of(run, {"tuned": answers([True] * 6)})
    (row,) = measure_rows([replace(result.measured[0], trusted=False)])
    assert not row.trusted
    assert "on questions that a model made" in row.notes
