import html
import re
from dataclasses import replace
from pathlib import Path

import pytest
from evaluated_runs import HOSTILE, answers, result_of

from genai.errors import GenaiError
from genai.evaluation.records import EvalResult, GateOutcome
from genai.evaluation.summary_markdown import append_step_summary, summary_markdown
from genai.tracking.run import RunDirectory


@pytest.fixture
def result(tmp_path: Path) -> EvalResult:
    run = RunDirectory.open(tmp_path, "faq-eval")
    scored = {"base": answers([False] * 16), "tuned": answers([True, False] * 8)}
    return result_of(run, scored, baseline="base", gates=["faq.token_f1 >= baseline", "faq.token_f1 >= 0.9"])


def test_gates_figures_and_slices_are_tables(result: EvalResult) -> None:
    text = summary_markdown(result)
    assert text.startswith("### genai eval faq\\-eval: 1 of 2 gates does not hold\n\n")
    lines = text.splitlines()
    assert next(line for line in lines if line.startswith("| ❌")).startswith("| ❌ | `faq.token_f1 >= 0.9` | tuned |")
    row = next(line for line in lines if line.startswith("| faq\\.token\\_f1 | tuned | 0\\.5"))
    assert row.count("|") == 8
    assert re.search(r"\\\+0\\\.5", row)
    assert "worst slices" in text
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        widths = {re.sub(r"\\\|", "", line).count("|") for line in table.splitlines()}
        assert len(widths) == 1, table


def test_texts_cannot_be_markup(result: EvalResult) -> None:
    gates = (
        GateOutcome(gate="a `b` | c", target="x|y", passed=True, reason="[link](http://evil) <img src=x>\n# head"),
        GateOutcome(gate="d", target="t", passed=True, reason="@everyone \x1b[31mred"),
    )
    text = summary_markdown(replace(result, gates=gates, warnings=(HOSTILE, "- [ ] task")))
    unescaped = re.sub(r"\\.", "", text)
    assert "<script" not in unescaped and "<img" not in unescaped and "](" not in unescaped
    assert "@everyone" not in unescaped and "\x1b" not in text and "\n# head" not in text
    assert html.escape(HOSTILE) != HOSTILE and "script" in text


def test_it_stays_below_what_github_shows(result: EvalResult) -> None:
    many = replace(result, measured=result.measured * 500, gates=result.gates * 500, warnings=("w" * 100,) * 5000)
    text = summary_markdown(many)
    assert len(text.encode()) < 1 << 20
    assert "and 800 more rows" in text


def test_it_is_appended_where_github_says(result: EvalResult, tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    assert append_step_summary(result, {"GITHUB_STEP_SUMMARY": str(path)}) == path
    assert path.read_text(encoding="utf-8") == f"before\n{summary_markdown(result)}\n"
    assert append_step_summary(result, {}) is None
    with pytest.raises(GenaiError, match="step summary cannot be written"):
        append_step_summary(result, {"GITHUB_STEP_SUMMARY": str(tmp_path / "gone" / "summary.md")})
