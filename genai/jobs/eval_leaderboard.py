"""`genai eval leaderboard [DATASET]`: all runs that measured the same data, best first.

The same data means the same content: a data set whose rows changed is another one, on a board of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from genai.errors import DataError, UsageError
from genai.evaluation.files import RESULT_FILE, read_result
from genai.evaluation.gating import ALL_TARGETS
from genai.evaluation.records import EvalResult, Measured
from genai.jobs.eval_runs import content_of
from genai.log import get_logger
from genai.registry import suggest
from genai.tracking.catalog import run_folders
from genai.tracking.metrics import plain
from genai.tracking.run import RunDirectory

_log = get_logger(__name__)
_SHOWN_NAMES = 10


@dataclass(frozen=True, kw_only=True)
class BoardRow:
    """A target of a run."""

    run: str
    target: str
    measured_at: str
    """When the run began, ISO 8601 in UTC."""
    measured: dict[str, Measured]
    """Metric -> its figure."""
    passed: bool | None
    """Whether all gates of this target, and of the whole job, held; None where there were none."""


@dataclass(frozen=True, kw_only=True)
class Board:
    """All that was measured on one data set."""

    dataset: str
    fingerprint: str | None
    """Of its content."""
    num_examples: int
    metric: str
    """By which it is ordered."""
    metrics: tuple[str, ...]
    rows: tuple[BoardRow, ...]
    """Best first."""


@dataclass(frozen=True, kw_only=True)
class Boards:
    """The boards of a folder of runs; the data set that was measured last comes first."""

    boards: tuple[Board, ...]
    passed_over: tuple[str, ...]
    """Runs whose result cannot be read, and why."""

    def to_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        boards = [
            {
                "dataset": board.dataset,
                "fingerprint": board.fingerprint,
                "num_examples": board.num_examples,
                "metric": board.metric,
                "rows": [_row_json(row) for row in board.rows],
            }
            for board in self.boards
        ]
        values: dict[str, Any] = plain({"boards": boards, "passed_over": self.passed_over})
        return values


@dataclass(frozen=True)
class _Found:
    """A finished evaluation."""

    directory: RunDirectory
    result: EvalResult
    at: str


def leaderboard(dataset: str | None = None, *, runs_dir: str | Path = "runs", metric: str | None = None) -> Boards:
    """The boards of all data sets, or of one.

    Args:
        dataset: the name of a data set; by default all.
        runs_dir: where run directories lie.
        metric: by which rows are ordered; by default the first that a data set's newest run measured.

    Raises:
        UsageError: no run measured that data set, or that metric; says what was measured.
    """
    passed_over: list[str] = []
    found = sorted(_evaluations(Path(runs_dir), passed_over), key=lambda each: each.at, reverse=True)
    grouped: dict[tuple[str, str | None], list[_Found]] = defaultdict(list)
    for each in found:
        for name in each.result.num_examples:
            grouped[name, content_of(each.directory, each.result, name)].append(each)
    wanted = {key: group for key, group in grouped.items() if dataset in (None, key[0])}
    if dataset is not None and not wanted:
        raise _unknown("data set", dataset, [name for name, _ in grouped], runs_dir)
    boards = [board for key, group in wanted.items() if (board := _board(*key, group, metric)) is not None]
    if metric is not None and not boards:
        known = [each.metric for group in wanted.values() for run in group for each in run.result.measured]
        raise _unknown("metric", metric, known, runs_dir)
    return Boards(boards=tuple(boards), passed_over=tuple(passed_over))


def _evaluations(runs_dir: Path, passed_over: list[str]) -> Iterator[_Found]:
    for folder in run_folders(runs_dir):
        directory = RunDirectory(folder)
        try:
            values = directory.read_result()
            if not isinstance(values, dict) or values.get("kind") != "eval":
                continue
            yield _Found(directory, read_result(folder / RESULT_FILE), directory.status.created_at)
        except (DataError, ValueError) as error:
            _log.warning("%s is passed over: %s", folder.name, error)
            passed_over.append(f"{folder.name}: {error}")


def _board(dataset: str, fingerprint: str | None, found: Sequence[_Found], metric: str | None) -> Board | None:
    """The board of one data set; None where nobody measured the metric."""
    rows = [row for each in found for row in _rows(each, dataset)]
    metrics = list(dict.fromkeys(label for row in rows for label in row.measured))
    ordered_by = metric or (metrics[0] if metrics else None)
    if ordered_by is None or ordered_by not in metrics:
        return None

    def place(row: BoardRow) -> tuple[bool, float]:
        measured = row.measured.get(ordered_by)
        if measured is None or measured.value != measured.value:
            return True, 0.0
        return False, -measured.value if measured.higher_is_better else measured.value

    return Board(
        dataset=dataset,
        fingerprint=fingerprint,
        num_examples=max(each.result.num_examples[dataset] for each in found),
        metric=ordered_by,
        metrics=tuple([ordered_by, *(each for each in metrics if each != ordered_by)]),
        rows=tuple(sorted(rows, key=place)),
    )


def _rows(found: _Found, dataset: str) -> list[BoardRow]:
    """Targets of a run with what was measured on a data set; a baseline is one of them where it has figures."""
    by_target: dict[str, dict[str, Measured]] = defaultdict(dict)
    for each in found.result.measured:
        if each.dataset == dataset:
            by_target[each.target][each.metric] = each
    return [
        BoardRow(
            run=found.directory.name,
            target=target,
            measured_at=found.at,
            measured=measured,
            passed=_passed(found.result, target),
        )
        for target, measured in by_target.items()
    ]


def _passed(result: EvalResult, target: str) -> bool | None:
    if target not in result.targets:
        return None  # the baseline, which no gate is about
    gates = [gate.passed for gate in result.gates if gate.target in (target, ALL_TARGETS)]
    return all(gates) if gates else None


def _row_json(row: BoardRow) -> dict[str, Any]:
    measured = {name: asdict(each) for name, each in row.measured.items()}
    return {
        "run": row.run,
        "target": row.target,
        "measured_at": row.measured_at,
        "passed": row.passed,
        "metrics": {
            name: {key: each[key] for key in ("value", "low", "high", "num", "unit", "higher_is_better")}
            for name, each in measured.items()
        },
    }


def _unknown(what: str, name: str, known: Sequence[str], runs_dir: str | Path) -> UsageError:
    names = list(dict.fromkeys(known))
    near = suggest(name, names)
    fix = f"did you mean '{near}'?" if near else f"measured: {', '.join(names[:_SHOWN_NAMES]) or 'nothing yet'}"
    return UsageError(f"no run in {runs_dir} measured the {what} '{name}'", fix=fix)
