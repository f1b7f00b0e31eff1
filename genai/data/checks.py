"""The thresholds of `data.checks`: each one that is not met is named, with what was measured and three of the rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from genai.config.finetune import DataChecksConfig
from genai.data.rows import BadRow, RowSet
from genai.data.summary import DataSummary
from genai.errors import GateError, Problem

if TYPE_CHECKING:
    from genai.data.tokenized import TokenizedRows

_NUM_SAMPLES = 3


def check_rows(summary: DataSummary, train: RowSet, evaluation: RowSet | None, checks: DataChecksConfig) -> None:
    """Stop the job when the rows do not meet the thresholds that can be checked before they are tokens.

    Args:
        summary: of `train` and `evaluation`.
        train: training rows.
        evaluation: evaluation rows, where there are some.
        checks: the thresholds.

    Raises:
        GateError: names every threshold that is not met.
    """
    bad = [*train.bad, *(evaluation.bad if evaluation else ())]
    num_rows = len(train) + (len(evaluation) if evaluation else 0)
    problems = _bad_rows(bad, num_rows + len(bad), checks)
    copies = [train.rows[index].source for index in summary.train.duplicates]
    problems += _share("max_duplicates", checks.max_duplicates, copies, len(train), "rows are copies of another one")
    if evaluation is not None and summary.overlap is not None:
        leaked = [evaluation.rows[index].source for index in summary.overlap.leaked]
        what = "evaluation rows also stand in the training rows"
        problems += _share("max_leaked", checks.max_leaked, leaked, len(evaluation), what)
    problems += _min_rows(len(train), checks)
    _raise_if_any(problems)


def check_tokens(tokenized: TokenizedRows, train: RowSet, checks: DataChecksConfig) -> None:
    """Stop the job when the training rows as tokens do not meet the thresholds.

    Args:
        tokenized: made from `train`.
        train: training rows.
        checks: the thresholds.

    Raises:
        GateError: names every threshold that is not met.
    """
    bad = [*train.bad, *tokenized.bad]
    problems = _bad_rows(bad, len(train) + len(train.bad), checks) if tokenized.bad else []
    truncated = [train.rows[index].source for index in tokenized.row_indices[tokenized.truncated].tolist()]
    num_examples, num_truncated = len(tokenized) + tokenized.num_dropped, len(truncated) + tokenized.num_dropped
    what = "rows are longer than max_seq_len"
    problems += _share("max_truncated", checks.max_truncated, truncated, num_examples, what, count=num_truncated)
    problems += _min_rows(len(tokenized), checks)
    _raise_if_any(problems)


def _bad_rows(bad: Sequence[BadRow], num_rows: int, checks: DataChecksConfig) -> list[Problem]:
    problems = _share("max_bad_rows", checks.max_bad_rows, [], num_rows, "rows cannot be used", count=len(bad))
    samples = [Problem(message=row.reason, where=row.source) for row in _varied(bad)]
    return [*problems, *samples] if problems else []


def _varied(bad: Iterable[BadRow]) -> list[BadRow]:
    """A few bad rows, those with different reasons first."""
    rows = list(bad)
    different = {row.reason: row for row in reversed(rows)}
    first = sorted(different.values(), key=rows.index)
    return list(islice([*first, *(row for row in rows if row not in first)], _NUM_SAMPLES))


def _share(
    key: str, limit: float, sources: Sequence[str], num_rows: int, what: str, *, count: int | None = None
) -> list[Problem]:
    """A problem when too large a share of the rows is concerned; `sources` says where they stand."""
    count = len(sources) if count is None else count
    if count <= limit * num_rows:
        return []
    samples = f", e.g. {', '.join(sources[:_NUM_SAMPLES])}" if sources else ""
    message = f"{count} of {num_rows} {what} ({count / num_rows:.1%}, allowed {limit:.1%}){samples}"
    return [Problem(message=message, where=f"data.checks.{key}")]


def _min_rows(num_rows: int, checks: DataChecksConfig) -> list[Problem]:
    if num_rows >= checks.min_rows:
        return []
    message = f"{num_rows} rows are left to train on, {checks.min_rows} are needed"
    return [Problem(message=message, where="data.checks.min_rows")]


def _raise_if_any(problems: Sequence[Problem]) -> None:
    if problems:
        error = GateError(problems[0].message, where=problems[0].where)
        error.problems = tuple(problems)
        raise error
