"""The rows of a task of in-context learning: which columns a kind has, read and checked.

    language_modeling              context, continuation
    multiple_choice                query, choices, gold
    schema                         context_options, continuation, gold
    generation_task_with_answers   context, answer, and optionally aliases, chain_of_thought

Surrounding white space of texts is taken away, as llm-foundry does; that of choices stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from genai.config.eval import IclTaskConfig
from genai.data.readers import Record
from genai.data.rows import BadRow
from genai.data.sources import read_records
from genai.data.tables import OpenTable
from genai.errors import DataError
from genai.registry import suggest

GENERATION = ("generation_task_with_answers", "question_answering")
"""Both names of the tasks that are answered in words; the second is what llm-foundry called them once."""


@dataclass(frozen=True, kw_only=True)
class IclRow:
    """A row, whatever its kind."""

    source: str
    """Where it stands."""
    context: str = ""
    """The text before the answer: context, or query."""
    answer: str = ""
    """What follows: continuation, or answer."""
    options: tuple[str, ...] = ()
    """choices, or context_options."""
    gold: int | None = None
    """Number of the right option."""
    aliases: tuple[str, ...] = ()
    """Other right answers."""
    reasoning: str | None = None
    """chain_of_thought; None where the file has no such column."""
    category: str = ""
    """Where the task has categories."""


def read_rows(task: IclTaskConfig, *, open_table: OpenTable | None = None) -> list[IclRow]:
    """All rows of a task, in the order of the file.

    Args:
        task: says where they are, and of which kind.
        open_table: for `delta:`; without one there are no tables here.

    Raises:
        DataConfigError: there is no such file.
        DataError: there is no row, or one lacks a column, or holds something else in it. No row is left out, since
            which examples are shown before a question depends on how many there are.
    """
    uri = task.dataset_uri
    uri = f"hf:{uri.removeprefix('hf://')}" if uri.startswith("hf://") else uri
    rows = [_row(task, record) for record in read_records(uri, split="test", open_table=open_table)]
    if not rows:
        raise DataError(f"the task {task.label} has no rows", where=task.dataset_uri)
    if any(row.reasoning is not None for row in rows):
        return [replace(row, reasoning=row.reasoning or "") for row in rows]
    return rows


def _row(task: IclTaskConfig, record: Record | BadRow) -> IclRow:
    if isinstance(record, BadRow):
        raise DataError(f"a row of the task {task.label} cannot be read: {record.reason}", where=record.source)
    columns = _Columns(task.label, record)
    row = IclRow(source=record.source, category=columns.text("category") if task.has_categories else "")
    if task.icl_task_type == "language_modeling":
        return replace(row, context=columns.text("context"), answer=columns.text("continuation"))
    if task.icl_task_type == "multiple_choice":
        options, gold = columns.options("choices")
        return replace(row, context=columns.text("query"), options=options, gold=gold)
    if task.icl_task_type == "schema":
        options, gold = columns.options("context_options")
        return replace(row, options=options, gold=gold, answer=columns.text("continuation"))
    reasoning = columns.text("chain_of_thought") if record.values.get("chain_of_thought") is not None else None
    return replace(
        row,
        context=columns.text("context"),
        answer=columns.text("answer"),
        aliases=columns.texts("aliases") if record.values.get("aliases") is not None else (),
        reasoning=reasoning,
    )


class _Columns:
    """The columns of one row, asked for by name.

    Args:
        label: of the task.
        record: the row.
    """

    def __init__(self, label: str, record: Record) -> None:
        self._label = label
        self._values: Mapping[str, Any] = record.values
        self._source = record.source

    def text(self, name: str) -> str:
        """A text without the white space around it."""
        value = self._value(name)
        if not isinstance(value, str):
            raise self._fault(f"column '{name}' must be a text, not {type(value).__name__}")
        return value.strip()

    def texts(self, name: str) -> tuple[str, ...]:
        """Texts as they are."""
        value = self._value(name)
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
            raise self._fault(f"column '{name}' must be a list of texts")
        return tuple(value)

    def options(self, name: str) -> tuple[tuple[str, ...], int]:
        """At least two texts, and the number of the right one."""
        options, gold = self.texts(name), self._value("gold")
        if len(options) < 2:
            raise self._fault(f"column '{name}' must hold at least two texts")
        if not isinstance(gold, int) or isinstance(gold, bool) or not 0 <= gold < len(options):
            raise self._fault(f"column 'gold' must be a number from 0 to {len(options) - 1}, not {gold!r}")
        return options, gold

    def _value(self, name: str) -> Any:
        if self._values.get(name) is not None:
            return self._values[name]
        near = suggest(name, self._values)
        raise self._fault(
            f"column '{name}' is missing",
            fix=f"did you mean '{near}'?" if near and near != name else f"columns: {', '.join(self._values)}",
        )

    def _fault(self, message: str, *, fix: str | None = None) -> DataError:
        return DataError(f"task {self._label}: {message}", where=self._source, fix=fix)
