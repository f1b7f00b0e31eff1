"""An evaluation as Markdown, for the summary of a step of GitHub Actions ($GITHUB_STEP_SUMMARY) or a comment.

Source of the form: GitHub Flavored Markdown; the file and its limit of 1 MiB: GitHub's "Workflow commands".
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from genai.errors import GenaiError
from genai.evaluation.records import EvalResult, Measured
from genai.report.terminal import strip_controls

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~@&$:])")
_WORST = 3
"""Slices that are named."""
_MOST_ROWS = 200
"""Of a table: a summary that is too long is not shown at all."""
_VARIABLE = "GITHUB_STEP_SUMMARY"


def summary_markdown(result: EvalResult) -> str:
    """Gates, values beside the baseline, and the worst slices, as Markdown; texts of data cannot be markup in it."""
    parts = [f"### genai eval {_escape(result.run)}: {_verdict(result)}"]
    parts += [_gates(result)] if result.gates else []
    parts += [_values(result)] if result.measured else []
    parts += [_slices(result.measured)] if any(each.slices for each in result.measured) else []
    parts += ["\n".join(f"- {_escape(warning)}" for warning in result.warnings[:_MOST_ROWS])] if result.warnings else []
    return "\n\n".join(parts) + "\n"


def append_step_summary(result: EvalResult, environment: Mapping[str, str] | None = None) -> Path | None:
    """Append the summary to the file that GitHub Actions names; None where there is no such file.

    Args:
        result: of the evaluation.
        environment: variables; by default those of this process.

    Raises:
        GenaiError: the file cannot be written.
    """
    name = (os.environ if environment is None else environment).get(_VARIABLE)
    if not name:
        return None
    path = Path(name)
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(summary_markdown(result) + "\n")
    except OSError as error:
        message = f"the step summary cannot be written: {error.strerror}"
        raise GenaiError(message, where=name, fix=f"unset {_VARIABLE}, or let it name a file") from error
    return path


def _verdict(result: EvalResult) -> str:
    if not result.gates:
        return "no gates"
    broken = sum(not gate.passed for gate in result.gates)
    number = len(result.gates)
    if not broken:
        return "the gate holds" if number == 1 else f"all {number} gates hold"
    return f"{broken} of {number} gates {'does' if broken == 1 else 'do'} not hold"


def _gates(result: EvalResult) -> str:
    rows = [
        ["✅" if gate.passed else "❌", _code(gate.gate), _escape(gate.target), _escape(gate.reason)]
        for gate in sorted(result.gates, key=lambda gate: gate.passed)
    ]
    return _table(["", "gate", "target", "in figures"], rows)


def _values(result: EvalResult) -> str:
    has_baseline = any(each.comparison is not None for each in result.measured)
    rows = [_row(each, has_baseline) for each in result.measured]
    columns = ["metric", "target", "value", "interval", "examples"]
    return _table([*columns, *(["difference", "p"] if has_baseline else [])], rows, numbers_from=2)


def _row(each: Measured, has_baseline: bool) -> list[str]:
    flags = "" if each.trusted else " (not calibrated)"
    cells = [
        _escape(each.name) + flags,
        _escape(each.target),
        _figure(each.value, each.unit),
        f"{_figure(each.low)} to {_figure(each.high)}",
        f"{each.num:,}",
    ]
    if not has_baseline:
        return cells
    found = each.comparison
    if found is None:
        return [*cells, "", ""]
    difference = _escape(f"{found.difference:+.3f}")
    return [*cells, f"**{difference}**" if found.significant else difference, _escape(f"{found.p_adjusted:.3f}")]


def _slices(measured: Sequence[Measured]) -> str:
    rows = [
        [_escape(each.name), _escape(each.target), _escape(f"{row.column} = {row.value}"), _figure(row.measured)]
        for each in measured
        for row in each.slices[:_WORST]
    ]
    table = _table(["metric", "target", "worst slices", "value"], rows, numbers_from=3)
    return f"<details><summary>Slices</summary>\n\n{table}\n\n</details>"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers_from: int | None = None) -> str:
    first_number = len(columns) if numbers_from is None else numbers_from
    rule = ["---" if number < first_number else "---:" for number in range(len(columns))]
    lines = [f"| {' | '.join(row)} |" for row in [columns, rule, *rows[:_MOST_ROWS]]]
    more = len(rows) - _MOST_ROWS
    return "\n".join([*lines, *(["", f"and {more:,} more rows"] if more > 0 else [])])


def _figure(value: float, unit: str = "") -> str:
    text = f"{value:.4g}" if math.isfinite(value) else "n/a"
    return _escape(f"{text} {unit}" if unit else text)


def _escape(text: str) -> str:
    """A text on one line that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", " ".join(strip_controls(text).split()))


def _code(text: str) -> str:
    """A text in the type of code where that is safe in a table, else escaped."""
    line = " ".join(strip_controls(text).split())
    return f"`{line}`" if "`" not in line and "|" not in line else _escape(line)
