"""From the job file's description of its data to checked rows, without torch or transformers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any

from genai.config.finetune import DataConfig, FinetuningDatasetConfig
from genai.data.checks import check_rows
from genai.data.columns import choose_format
from genai.data.faults import data_fault
from genai.data.formats import to_row
from genai.data.readers import Record
from genai.data.row_shards import read_shards
from genai.data.rows import BadRow, Row, RowSet
from genai.data.sources import read_records
from genai.data.split import group_columns, split_rows
from genai.data.summary import DataSummary, summarise_rows
from genai.data.tables import OpenTable
from genai.log import get_logger, progress
from genai.registry import suggest

_log = get_logger(__name__)
_NUM_FIRST = 20
"""Records that are looked at to know the format."""


@dataclass(frozen=True, kw_only=True)
class PreparedRows:
    """Rows that are ready to be tokenised."""

    train: RowSet
    """Training rows."""
    evaluation: RowSet | None
    """Evaluation rows: split off, or from a data set of their own, or none."""
    summary: DataSummary
    """Their numbers."""
    tables: Mapping[str, Any] = field(default_factory=dict)
    """Reference of a table -> which version of it was read."""

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the content of all rows, in their order."""
        rows = [*self.train.rows, *(self.evaluation.rows if self.evaluation else ())]
        return hashlib.sha256("".join(row.key for row in rows).encode()).hexdigest()


def prepare_rows(
    train: RowSet, evaluation: RowSet | None, data_cfg: DataConfig, *, max_rows: int | None = None
) -> PreparedRows:
    """Split and check the rows of a job, and tell their numbers.

    Args:
        train: `train_loader.dataset`, as `load_rows` gave it.
        evaluation: `eval_loader.dataset`, where there is one.
        data_cfg: `data`.
        max_rows: keep at most this many training rows; held-back ones do not count.

    Raises:
        DataConfigError: one side of the split would be empty; `key` names the key at fault.
        GateError: a threshold of `data.checks` is not met.
    """
    if evaluation is None and data_cfg.split is not None and len(train):
        kept, held_back = split_rows(train.rows, data_cfg.split)
        train, evaluation = replace(train, rows=kept), RowSet(rows=held_back)
    train = first_rows(train, max_rows)
    summary = summarise_rows(train, evaluation)
    check_rows(summary, train, evaluation, data_cfg.checks)
    for line in summary.lines():
        _log.info("%s", line)
    return PreparedRows(train=train, evaluation=evaluation, summary=summary)


def load_rows(
    dataset_cfg: FinetuningDatasetConfig, data_cfg: DataConfig, *, open_table: OpenTable | None = None
) -> RowSet:
    """All rows of one data set, the bad ones apart.

    Args:
        dataset_cfg: where they are and what they look like.
        data_cfg: says which columns make groups.
        open_table: opens what `delta:` names.

    Raises:
        DataConfigError: there are none, or they are in no format that is known.
    """
    records = _records(dataset_cfg, open_table)
    columns = group_columns(data_cfg.split)
    rows: list[Row] = []
    bad: list[BadRow] = []
    with progress("reading rows") as task:
        for number, row in enumerate(_to_rows(records, dataset_cfg, columns), 1):
            if isinstance(row, Row):
                rows.append(row)
            else:
                bad.append(row)
            if number % 1000 == 0:
                task.update(number)
    return RowSet(rows=tuple(rows), bad=tuple(bad))


def _records(cfg: FinetuningDatasetConfig, open_table: OpenTable | None) -> Iterator[Record | BadRow]:
    if cfg.streams or cfg.remote or cfg.local:
        return read_shards(cfg)
    reference = cfg.path or f"hf:{cfg.hf_name}"
    return read_records(reference, split=cfg.split, hf_kwargs=cfg.hf_kwargs, open_table=open_table)


def first_rows(rows: RowSet, max_rows: int | None) -> RowSet:
    """At most `max_rows` of the good rows."""
    return rows if max_rows is None else replace(rows, rows=rows.rows[:max_rows])


def _to_rows(
    records: Iterator[Record | BadRow], cfg: FinetuningDatasetConfig, columns: tuple[str, ...]
) -> Iterator[Row | BadRow]:
    first: list[Record | BadRow] = []
    good: list[Record] = []
    for record in records:
        first.append(record)
        if isinstance(record, Record):
            good.append(record)
        if len(good) == _NUM_FIRST:
            break
    if good:
        kind = choose_format(good, cfg.format, cfg.columns)
        _check_group_columns(good, columns)
    for record in chain(first, records):
        yield record if isinstance(record, BadRow) else to_row(record, kind, cfg, group_columns=columns)


def _check_group_columns(records: list[Record], columns: tuple[str, ...]) -> None:
    known = list(dict.fromkeys(key for record in records for key in record.values))
    for name in columns:
        if name not in known:
            near = suggest(name, [*known, "near_duplicates"])
            fix = f"did you mean '{near}'?" if near else f"the columns are: {', '.join(known)}, or near_duplicates"
            where = records[0].source
            raise data_fault(f"there is no column '{name}'", key="data.split.group_by", where=where, fix=fix)
