"""What the commands of `genai eval`, and of models that are promoted by it, print for people."""

from __future__ import annotations

import math
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .failures import printable
from .output import format_table

if TYPE_CHECKING:
    from genai.jobs.eval_compare import Compared, ExampleChange
    from genai.jobs.eval_embeddings import EmbeddingScores
    from genai.jobs.eval_leaderboard import Board, BoardRow, Boards
    from genai.jobs.eval_rows import EvalResult, Measured
    from genai.jobs.models_promote import Promoted

_SHOWN_FAULTS = 3
_SHOWN_CHANGES = 5
_SHOWN_METRICS = 6
_NO_VALUE = "-"


def summary(result: EvalResult) -> str:
    """Figures with intervals and differences, gates, what it cost, where more is to be seen."""
    has_baseline = any(each.comparison is not None for each in result.measured)
    several = len({each.target for each in result.measured}) > 1
    rows = [_measured_row(each, several, has_baseline) for each in result.measured]
    columns = ["metric", *(["target"] if several else []), "value", "interval", "n"]
    columns += ["baseline", "difference", "interval", "p"] if has_baseline else []
    parts = [format_table(columns, rows)] if rows else ["nothing was measured"]
    parts += ["\n".join(lines) for lines in (_averages(result), _worst_slices(result), _remarks(result)) if lines]
    parts += [_gates(result)] if result.gates else []
    return "\n\n".join([*parts, _aligned(_closing(result))])


def _measured_row(each: Measured, several: bool, has_baseline: bool) -> list[object]:
    cells: list[object] = [each.name + ("" if each.trusted else " *")]
    cells += [each.target] if several else []
    cells += [_figure(each.value, each.unit), _ends(each.low, each.high), f"{each.num:,}"]
    found = each.comparison
    if not has_baseline:
        return cells
    if found is None:
        return [*cells, None, None, None, None]
    star = " significant" if found.significant else ""
    difference = [_figure(found.baseline, each.unit), f"{found.difference:+.4g}", _ends(found.low, found.high, "+")]
    return [*cells, *difference, f"{_p(found.p_adjusted)}{star}"]


def _averages(result: EvalResult) -> list[str]:
    return [
        f"{target}: {', '.join(f'{name} {value:.4f}' for name, value in averages.items())}"
        for target, averages in result.averages.items()
    ]


def _worst_slices(result: EvalResult) -> list[str]:
    """The worst slice of each target's first metric that was cut into slices; the report has all of them."""
    first: dict[tuple[str, str], Measured] = {}
    for each in result.measured:
        if each.slices and each.target != result.baseline:
            first.setdefault((each.target, each.dataset), each)
    return [
        f"worst slice of {printable(each.name)} ({printable(each.target)}): {printable(worst.column)} = "
        f"{printable(worst.value)}, {_figure(worst.measured, each.unit)} on {worst.num:,} examples"
        for each in first.values()
        for worst in [each.slices[0]]
    ]


def _remarks(result: EvalResult) -> list[str]:
    """What must not be overlooked: answers and scores that are missing, notes of metrics, warnings."""
    lines = list(dict.fromkeys(line for each in result.measured for line in _missing(each)))
    if any(not each.trusted for each in result.measured):
        lines.append("* by a judge that is not calibrated: no gate may rest on it")
    notes = [
        f"{printable(each.name)} of {printable(each.target)}: {printable(note)}"
        for each in result.measured
        if each.target != result.baseline
        for note in each.notes
    ]
    return [*lines, *dict.fromkeys(notes), *(f"warning: {printable(each)}" for each in result.warnings)]


def _missing(each: Measured) -> list[str]:
    """Answers are missing for all metrics of a target alike, scores for one of them."""
    target, dataset, name = printable(each.target), printable(each.dataset), printable(each.name)
    words = [f"{target} on {dataset}: {each.num_failed:,} without an answer"] if each.num_failed else []
    return words + ([f"{target} by {name}: {each.num_unscored:,} could not be scored"] if each.num_unscored else [])


def _gates(result: EvalResult) -> str:
    several = len({each.target for each in result.gates}) > 1
    rows: list[list[object]] = [
        [
            each.gate,
            *([each.target] if several else []),
            "holds" if each.passed else "DOES NOT HOLD",
            each.reason,
        ]
        for each in result.gates
    ]
    return format_table(["gate", *(["target"] if several else []), "", "in figures"], rows)


def _closing(result: EvalResult) -> list[tuple[str, str]]:
    lines = [("run", f"{result.run} in {result.path}")]
    priced = [usage.usd for usage in result.usage.values() if usage.usd is not None]
    tokens = sum(usage.prompt_tokens + usage.completion_tokens for usage in result.usage.values())
    cost = f", {sum(priced):.4g} USD" if priced else ""
    lines.append(("took", f"{result.seconds:,.1f} s, {tokens:,} tokens{cost}"))
    if result.report is not None:
        lines.append(("report", result.report))
    return lines


# --- two runs ---------------------------------------------------------------------------------------------------------


def comparison_text(compared: Compared) -> str:
    """Differences with their significance, and the examples that changed most."""
    rows: list[list[object]] = []
    for each in compared.measured:
        found = each.comparison
        if found is None:
            continue
        rows.append(
            [
                each.name,
                _figure(found.baseline, each.unit),
                _figure(found.value, each.unit),
                f"{found.difference:+.4g}",
                _ends(found.low, found.high, "+"),
                _p(found.p_adjusted),
                "yes" if found.significant else "no",
                found.wins,
                found.losses,
                found.ties,
            ]
        )
    columns = ["metric", "a", "b", "difference", "interval", "p", "significant", "wins", "losses", "ties"]
    parts = [
        f"a  {printable(compared.first)}\nb  {printable(compared.second)}\n{compared.num_examples:,} examples of both",
        format_table(columns, rows),
        *_changes(compared.changes),
        *(["\n".join(f"not compared: {printable(each)}" for each in compared.left_out)] if compared.left_out else []),
        *([f"page: {compared.html}"] if compared.html is not None else []),
    ]
    return "\n\n".join(parts)


def _changes(changes: Sequence[ExampleChange]) -> list[str]:
    """The largest losses and gains of the first metric that has any."""
    metric = next(((each.dataset, each.metric) for each in changes), None)
    if metric is None:
        return []
    of_metric = [each for each in changes if (each.dataset, each.metric) == metric]
    parts = []
    for verdict, title in (("lost", "worse in b"), ("won", "better in b")):
        found = [each for each in of_metric if each.verdict == verdict]
        if found:
            head = f"{title} by {printable('.'.join(metric))}, {len(found):,} examples:"
            parts.append("\n".join([head, *(_change(each) for each in found[:_SHOWN_CHANGES])]))
    return parts


def _change(change: ExampleChange) -> str:
    width = max(40, shutil.get_terminal_size((100, 24)).columns)
    line = f"  {printable(change.id)}  {change.first:.4g} -> {change.second:.4g}  {printable(change.question)}"
    return textwrap.shorten(line, width=width, placeholder=" ...") if len(line) > width else line


# --- leaderboard ------------------------------------------------------------------------------------------------------


def leaderboard_text(boards: Boards) -> str:
    """A table for each data set, best first."""
    tables = [_board(board) for board in boards.boards]
    passed_over = [f"passed over {printable(each)}" for each in boards.passed_over]
    return "\n\n".join([*tables, *(["\n".join(passed_over)] if passed_over else [])]) or "nothing was evaluated yet"


def _board(board: Board) -> str:
    metrics = board.metrics[:_SHOWN_METRICS]
    rows = [_board_row(place, row, metrics) for place, row in enumerate(board.rows, start=1)]
    content = f", {board.fingerprint[:16]}" if board.fingerprint else ""
    head = f"{printable(board.dataset)} ({board.num_examples:,} examples{content}), by {printable(board.metric)}:"
    columns = ["", "run", "target", *metrics[:1], "interval", *metrics[1:], "gates", "at"]
    lines = [head, format_table(columns, rows)]
    more = len(board.metrics) - len(metrics)
    return "\n".join([*lines, *([f"and {more} more metrics: --json"] if more > 0 else [])])


def _board_row(place: int, row: BoardRow, metrics: Sequence[str]) -> list[object]:
    first = row.measured.get(metrics[0])
    values = [_figure(each.value, each.unit) if (each := row.measured.get(name)) else None for name in metrics]
    gates = None if row.passed is None else "hold" if row.passed else "do not hold"
    ends = None if first is None else _ends(first.low, first.high)
    return [place, row.run, row.target, values[0], ends, *values[1:], gates, row.measured_at[:16].replace("T", " ")]


# --- metrics ----------------------------------------------------------------------------------------------------------


def metrics_text(listed: Sequence[Mapping[str, Any]]) -> str:
    """Every metric with what it says and the kinds of data it is for."""
    rows: list[list[object]] = [
        [each["name"], "up" if each["higher"] else "down", ", ".join(each["kinds"]) or "all", each["what"]]
        for each in listed
    ]
    return format_table(["metric", "better", "data", "what"], rows)


# --- aliases ----------------------------------------------------------------------------------------------------------


def embeddings_text(scores: EmbeddingScores) -> str:
    """Of `genai eval embeddings`."""
    lines = []
    if (found := scores.frechet) is not None:
        sizes = f"{found.num_first:,} and {found.num_second:,} rows of {found.num_dimensions:,} numbers"
        lines.append(("frechet", f"{found.distance:.6g} between {sizes}"))
        lines += [("", found.note)] if found.note else []
    if scores.inception is not None:
        lines.append(("inception", f"{scores.inception:.6g}"))
    return _aligned(lines)


def promotion_text(done: Promoted) -> str:
    """What an alias names now, and why it may."""
    before = "" if done.before in (None, done.version) else f", before: version {done.before}"
    lines = [("alias", f"registry:{done.name}@{done.alias} is version {done.version}{before}")]
    lines.append(("model", f"{done.model}{', registered now' if done.registered else ''}"))
    if done.eval_run is not None:
        lines.append(("eval", done.eval_run))
    lines += [("gate", each) for each in done.gates]
    return _aligned(lines)


# --- figures ----------------------------------------------------------------------------------------------------------


def _figure(value: float, unit: str = "") -> str:
    if not math.isfinite(value):
        return _NO_VALUE
    text = f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"
    return f"{text} {unit}" if unit else text


def _ends(low: float, high: float, sign: str = "") -> str:
    if not (math.isfinite(low) and math.isfinite(high)):
        return _NO_VALUE
    return f"{low:{sign}.4g} to {high:{sign}.4g}"


def _p(value: float) -> str:
    if not math.isfinite(value):
        return _NO_VALUE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _aligned(lines: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"{name:<7} {printable(text)}" for name, text in lines)
