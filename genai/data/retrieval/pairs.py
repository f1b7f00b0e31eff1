"""Rows of a query and what answers it, as their file has them: pairs, triplets, graded pairs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

from genai.config.embed_finetune import RetrievalDataConfig
from genai.data.columns import rename
from genai.data.faults import data_fault
from genai.data.messages import Unusable
from genai.data.readers import Record
from genai.data.retrieval.corpus import NUM_FIRST, name_in
from genai.data.retrieval.faults import check_column, guess_columns, told_at
from genai.data.rows import BadRow
from genai.data.sources import read_records
from genai.data.tables import OpenTable
from genai.log import progress
from genai.registry import suggest

Kind = Literal["pairs", "triplets", "graded"]
"""pairs: a query and its answer; triplets: with texts that are none; graded: with how well the passage answers it."""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "query": ("question", "q", "anchor", "sentence1", "prompt", "search_query"),
    "positive": ("answer", "a", "pos", "passage", "document", "doc", "text", "context", "response", "sentence2"),
    "negative": ("negatives", "neg", "hard_negative", "hard_negatives"),
    "score": ("label", "similarity", "grade", "relevance"),
    "id": (),
    "group": (),
}
"""Columns of a row -> what else they are often called."""


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """One row, checked, its texts not yet found among the passages."""

    query: str
    positive: str | None
    """The text that answers it; None where only `id` says it."""
    negatives: tuple[str, ...]
    """Texts that do not."""
    score: float | None
    id: str | None
    """Of the document that answers it."""
    group: str | None
    source: str


@dataclass(frozen=True, kw_only=True)
class PairRows:
    """What was read of `data.pairs`."""

    rows: tuple[PairRow, ...]
    bad: tuple[BadRow, ...]
    columns: tuple[str, ...]
    """Of the file."""
    kind: Kind


def read_pairs(config: RetrievalDataConfig, *, open_table: OpenTable | None) -> PairRows:
    """All rows of `data.pairs`, at most `max_pairs` good ones.

    Raises:
        DataConfigError: a reference leads nowhere, or there are not the columns that are needed.
    """
    assert config.pairs is not None
    bad: list[BadRow] = []
    rows: list[PairRow] = []
    with told_at("data.pairs"), progress("reading pairs") as task:
        records = read_records(config.pairs, open_table=open_table)
        first = _first(records)
        good = [record for record in first if isinstance(record, Record)]
        shape = _shape(good, config)
        for record in chain(first, records):
            row = record if isinstance(record, BadRow) else _row(record, shape)
            if isinstance(row, BadRow):
                bad.append(row)
                continue
            rows.append(row)
            task.update(len(rows))
            if len(rows) == config.max_pairs:
                break
    has_negatives = any(row.negatives for row in rows)
    kind: Kind = "graded" if shape.graded else "triplets" if has_negatives else "pairs"
    return PairRows(rows=tuple(rows), bad=tuple(bad), columns=shape.columns, kind=kind)


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """What the rows of a file have."""

    columns: tuple[str, ...]
    renamed: Mapping[str, str]
    """`data.columns`."""
    group_columns: tuple[str, ...]
    graded: bool


def _first(records: Iterator[Record | BadRow]) -> list[Record | BadRow]:
    """So many that some of them are good, where any are."""
    first: list[Record | BadRow] = []
    num_good = 0
    for record in records:
        first.append(record)
        num_good += isinstance(record, Record)
        if num_good == NUM_FIRST:
            break
    return first


def _shape(records: Sequence[Record], config: RetrievalDataConfig) -> _Shape:
    """Hold the columns of the first records against what is needed.

    Raises:
        DataConfigError: one that is needed or named is not there.
    """
    columns = tuple(dict.fromkeys(column for record in records for column in record.values))
    group_by = config.split.group_by
    group_columns = () if group_by is None else (group_by,) if isinstance(group_by, str) else tuple(group_by)
    shape = _Shape(columns=columns, renamed=config.columns, group_columns=group_columns, graded=False)
    for wanted in config.columns:
        if wanted not in COLUMNS:
            near = suggest(wanted, COLUMNS)
            fix = f"did you mean '{near}'?" if near else f"what can be renamed: {', '.join(COLUMNS)}"
            raise data_fault(f"nothing is called '{wanted}' here", key="data.columns", fix=fix)
    if not records:
        return shape
    for column in config.columns.values():
        check_column(column, records, key="data.columns")
    views = [rename(record.values, config.columns) for record in records]
    for column in group_columns:
        known = [Record(values=view, source=record.source) for view, record in zip(views, records, strict=True)]
        check_column(column, known, key="data.split.group_by")
    has = {name for name in COLUMNS if any(name in view for view in views)}
    missing = [] if "query" in has else ["query"]
    missing += [] if has & {"positive", "id"} else ["positive"]
    if missing:
        raise data_fault(
            f"pairs need {' and '.join(repr(name) for name in missing)}; the rows have {', '.join(columns)}",
            key="data.columns",
            where=records[0].source,
            fix=_mapping(missing, columns),
        )
    return _Shape(columns=columns, renamed=config.columns, group_columns=group_columns, graded="score" in has)


def _mapping(missing: Sequence[str], columns: Sequence[str]) -> str:
    guessed = guess_columns({name: COLUMNS[name] for name in missing}, columns)
    if len(guessed) < len(missing):
        return "set data.columns, e.g. {query: YOUR_QUESTIONS, positive: YOUR_ANSWERS}"
    return f"set data.columns: {{{', '.join(f'{name}: {column}' for name, column in guessed.items())}}}"


def _row(record: Record, shape: _Shape) -> PairRow | BadRow:
    view = rename(record.values, shape.renamed)
    try:
        positive = _text(view, "positive") if "positive" in view else None
        if positive is None and "id" not in view:
            raise Unusable("there is no text in 'positive'")
        return PairRow(
            query=_text(view, "query"),
            positive=positive,
            negatives=_texts(view.get("negative")),
            score=_score(view) if shape.graded else None,
            id=name_in(view, "id") if "id" in view else None,
            group=_group(view, shape.group_columns),
            source=record.source,
        )
    except Unusable as error:
        return BadRow(source=record.source, reason=str(error))


def _text(view: Mapping[str, Any], name: str) -> str:
    value = view.get(name)
    if not isinstance(value, str | None):
        raise Unusable(f"'{name}' is no text")
    if value is None or not value.strip():
        raise Unusable(f"there is no text in '{name}'")
    return value.strip()


def _texts(value: Any) -> tuple[str, ...]:
    texts = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str | None) for text in texts):
        raise Unusable("'negative' is neither a text nor a list of texts")
    return tuple(dict.fromkeys(text.strip() for text in texts if text and text.strip()))


def _score(view: Mapping[str, Any]) -> float:
    value = view.get("score")
    if value is None:
        raise Unusable("has no 'score', which other rows have")
    try:
        score = float(value) if isinstance(value, str | int | float) else math.nan
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise Unusable(f"the score {value!r} is no number")
    return score


def _group(view: Mapping[str, Any], columns: Sequence[str]) -> str | None:
    missing = next((name for name in columns if view.get(name) is None), None)
    if missing is not None:
        raise Unusable(f"has no '{missing}', which data.split.group_by names")
    if columns:
        return json.dumps([view[name] for name in columns], sort_keys=True, default=str)
    return None if "group" not in view else json.dumps(view["group"], sort_keys=True, default=str)
