"""Questions of which it is known what should be found, to measure an index or a model with.

One JSON object a line:

    {"query": "how thick is the screed", "relevant": ["faq-17"]}
    {"query": "who pays", "relevant": {"faq-3": 2, "faq-9": 1}, "filter": "topic=money", "tenant": "acme"}

`relevant` names what should be found, one or several; a mapping gives each a grade. `filter` and `tenant` are for an
index.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from genai.data.retrieval.records import HeldOutQuery
from genai.data.rows import BadRow
from genai.data.sources import read_records
from genai.data.tables import OpenTable
from genai.errors import ConfigError, Problem
from genai.log import get_logger
from genai.registry import suggest

_FIELDS = ("query", "relevant", "filter", "tenant")
_MAX_SHOWN = 20
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class LabelledRow:
    """One question as its file has it, checked."""

    query: str
    """The question."""
    relevant: Mapping[str, float]
    """What should be found -> grade, above 0."""
    values: Mapping[str, Any]
    """All of the row."""
    source: str
    """`path:line`."""


def read_labelled(path: str, *, open_table: OpenTable | None = None) -> list[LabelledRow]:
    """All questions of a file (JSONL, a JSON array, or Parquet; also s3://...).

    Raises:
        ConfigError: rows cannot be used; names each of them, up to some twenty.
        UsageError: the file cannot be read.
    """
    rows: list[LabelledRow] = []
    problems: list[Problem] = []
    for record in read_records(path, open_table=open_table):
        if isinstance(record, BadRow):
            problems.append(Problem(message=record.reason, where=record.source))
        elif found := list(_faults(record.values)):
            problems.extend(Problem(message=message, where=record.source, fix=fix) for message, fix in found)
        else:
            relevant = grades_of(record.values["relevant"])
            rows.append(
                LabelledRow(query=record.values["query"], relevant=relevant, values=record.values, source=record.source)
            )
    if problems:
        left = len(problems) - _MAX_SHOWN
        more = [Problem(message=f"and {left} more", where=path)] if left > 0 else []
        raise ConfigError([*problems[:_MAX_SHOWN], *more])
    return rows


def read_held_out(path: str, *, open_table: OpenTable | None = None) -> tuple[HeldOutQuery, ...]:
    """The same as queries to measure a model with; what is relevant is matched with the passages by `split_material`.

    Raises:
        ConfigError: rows cannot be used, or there are none.
        UsageError: the file cannot be read.
    """
    rows = read_labelled(path, open_table=open_table)
    narrowed = [row for row in rows if row.values.get("filter") is not None or row.values.get("tenant") is not None]
    if narrowed:
        what = "%s: filter and tenant of %d queries (the first: %s) are for an index; the whole corpus is searched"
        _log.warning(what, path, len(narrowed), narrowed[0].source)
    return tuple(HeldOutQuery(query=row.query, relevant=row.relevant, source=row.source) for row in rows)


def _faults(values: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """What is wrong with a row, and the way out."""
    for name in values:
        if name not in _FIELDS and (near := suggest(name, [field for field in _FIELDS if field not in values])):
            yield f"unknown field '{name}'", f"did you mean '{near}'?"
    query = values.get("query")
    if not isinstance(query, str) or not query.strip():
        yield "there is no text in 'query'", None
    yield from relevant_faults(values.get("relevant"))
    if not isinstance(values.get("filter"), str | Mapping | list | None):
        yield "'filter' is no filter", 'e.g. "topic=floors"'
    if not isinstance(values.get("tenant"), str | None):
        yield "'tenant' is no text", None


def relevant_faults(relevant: Any) -> Iterator[tuple[str, str | None]]:
    """What is wrong with the value of a column `relevant`, and the way out."""
    if isinstance(relevant, Mapping):
        graded = {
            name: grade for name, grade in relevant.items() if grade is not None
        }  # Parquet has all keys everywhere
        if not all(_is_number(grade) for grade in graded.values()):
            yield "a grade in 'relevant' is no number", 'e.g. {"faq-3": 2, "faq-9": 1}'
        elif not any(grade > 0 for grade in graded.values()):
            yield "nothing in 'relevant' has a grade above 0", "leave out queries without an answer"
    elif not (names := _as_list(relevant)) or not all(_is_name(name) for name in names):
        yield "'relevant' names nothing that should be found", 'e.g. "relevant": ["faq-17"]'


def grades_of(relevant: Any) -> dict[str, float]:
    """Name -> grade, of a value of the column `relevant` that has no faults."""
    if isinstance(relevant, Mapping):
        return {str(name): float(grade) for name, grade in relevant.items() if grade is not None and grade > 0}
    return {str(name): 1.0 for name in _as_list(relevant)}


def _as_list(relevant: Any) -> list[Any]:
    if isinstance(relevant, list):
        return relevant
    return [] if relevant is None else [relevant]


def _is_name(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and str(value) != ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
