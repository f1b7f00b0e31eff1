"""Answers that people have scored: what a judge is held against.

One JSON object a line (or Parquet, CSV):

    {"prompt": "What do bees eat?", "answer": "Honey.", "score": 5, "reference": "Honey", "contexts": ["..."]}

Scores lie on the judge's scale, or are all true or false (1 or 0): good enough or not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genai.config.eval import JudgeConfig
from genai.data.columns import rename
from genai.data.rows import BadRow
from genai.data.sources import read_records
from genai.data.tables import OpenTable
from genai.errors import ConfigError, Problem
from genai.evaluation.records import Answer, Chat, Example
from genai.registry import suggest

_FIELDS = ("prompt", "answer", "score", "reference", "contexts")
_NEEDED = ("prompt", "answer", "score")
_MAX_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class HumanScore:
    """An answer, and what people think of it."""

    example: Example
    """The question, with what the row has of references and passages."""
    answer: Answer
    """What was scored."""
    score: float
    """On the judge's scale; or 0 and 1, see `are_yes_or_no`."""
    source: str
    """`path:line`."""


def read_human_scores(config: JudgeConfig, *, judge: str, open_table: OpenTable | None = None) -> list[HumanScore]:
    """The rows that a judge is calibrated with; none where its job file names none.

    Args:
        config: of the judge.
        judge: its name, for messages.
        open_table: for `delta:`.

    Raises:
        ConfigError: rows cannot be used; names each of them, up to some twenty.
        UsageError: the file cannot be read.
    """
    if config.calibration is None:
        return []
    columns = config.calibration.columns
    rows: list[HumanScore] = []
    problems: list[Problem] = []
    for number, record in enumerate(read_records(config.calibration.path, open_table=open_table)):
        if isinstance(record, BadRow):
            problems.append(Problem(message=record.reason, where=record.source))
            continue
        values = rename(record.values, columns)
        faults = list(_faults(values, columns))
        problems += [Problem(message=message, where=record.source, fix=fix) for message, fix in faults]
        if not faults:
            rows.append(_row(values, number, record.source))
    problems = problems or list(_off_the_scale(rows, config.scale, judge))
    if problems:
        left = len(problems) - _MAX_SHOWN
        more = [Problem(message=f"and {left} more", where=config.calibration.path)] if left > 0 else []
        raise ConfigError([*problems[:_MAX_SHOWN], *more])
    return rows


def are_yes_or_no(rows: Sequence[HumanScore], scale: tuple[int, int]) -> bool:
    """Whether people said good or bad, though the judge has a longer scale."""
    return scale != (0, 1) and all(row.score in (0, 1) for row in rows)


def _faults(values: Mapping[str, Any], columns: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    """What is wrong with a row, and the way out."""
    for name in _NEEDED:
        if name not in values:
            near = suggest(name, [each for each in values if each not in _FIELDS])
            fix = f"set columns: {{{name}: {near}}}" if near else f"the columns are: {', '.join(values) or 'none'}"
            yield f"there is no '{columns.get(name, name)}'", fix
    for name in ("prompt", "answer"):
        if name in values and not isinstance(values[name], str):
            yield f"'{columns.get(name, name)}' is no text", None
    if "score" in values and _number(values["score"]) is None:
        yield f"the score {values['score']!r} is no number", "a number of the judge's scale, or true and false"
    for name in ("reference", "contexts"):
        if name in values and not all(isinstance(each, str) for each in _as_list(values[name])):
            yield f"'{columns.get(name, name)}' is neither a text nor a list of texts", None


def _off_the_scale(rows: Sequence[HumanScore], scale: tuple[int, int], judge: str) -> Iterator[Problem]:
    low, high = scale
    if are_yes_or_no(rows, scale):
        return
    for row in rows:
        if not low <= row.score <= high:
            message = f"the score {row.score:g} does not lie on the scale of judge '{judge}', {low} to {high}"
            yield Problem(message=message, where=row.source, fix=f"set judges.{judge}.scale, or score by 0 and 1 alone")


def _row(values: Mapping[str, Any], number: int, source: str) -> HumanScore:
    contexts = tuple(_as_list(values.get("contexts")))
    example = Example(
        id=str(number),
        dataset="calibration",
        kind="generation",
        question=Chat(prompt=values["prompt"]),
        references=tuple(_as_list(values.get("reference"))),
        contexts=contexts,
    )
    score = _number(values["score"])
    assert score is not None
    return HumanScore(example=example, answer=Answer(text=values["answer"]), score=score, source=source)


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _number(value: Any) -> float | None:
    """True and false are 1 and 0; files of cells have numbers as texts."""
    words = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}
    if isinstance(value, str) and value.strip().lower() in words:
        return words[value.strip().lower()]
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
