"""The payload of many points as one typed array a column, and filters as masks over them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genai.config.index import ColumnType
from genai.index.filters import All, AnyOf, Compare, Filter, Not, held_values
from genai.index.interfaces import Metadata

Mask = NDArray[np.bool_]
"""(rows,)"""
_NUMBERS = {"integer": np.int64, "float": np.float64, "boolean": np.bool_, "datetime": np.float64}
_ORDER: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


@dataclass(frozen=True, kw_only=True)
class Keywords:
    """A keyword column: which words stand in which rows."""

    words: list[str]
    """Each once; the code of a word is its place."""
    rows: NDArray[np.int32]
    """(entries,)"""
    codes: NDArray[np.int32]
    """(entries,)"""

    def mask(self, compare: Compare, num_rows: int) -> Mask:
        """Which rows pass."""
        if compare.operator == "exists":
            return _mask_of(self.rows, num_rows)
        wanted = set(compare.value) if compare.operator == "in" else {compare.value}
        codes = [code for code, word in enumerate(self.words) if word in wanted]
        mask = _mask_of(self.rows[np.isin(self.codes, codes)], num_rows)
        return _mask_of(self.rows, num_rows) & ~mask if compare.operator == "!=" else mask

    def joined(self, later: Keywords, num_rows: int) -> Keywords:
        """These rows and after them, from `num_rows` on, those of `later`."""
        code_of = {word: code for code, word in enumerate(self.words)}
        codes = [code_of.setdefault(word, len(code_of)) for word in later.words]
        return Keywords(
            words=list(code_of),
            rows=np.concatenate([self.rows, later.rows + np.int32(num_rows)]),
            codes=np.concatenate([self.codes, np.asarray(codes, dtype=np.int32)[later.codes]]),
        )

    def taken(self, position: NDArray[np.int64], num_rows: int) -> Keywords:
        """The same with other row numbers; `position` is old row -> new row, -1 for those that go."""
        rows = position[self.rows]
        stays = rows >= 0
        used, codes = np.unique(self.codes[stays], return_inverse=True)
        return Keywords(
            words=[self.words[code] for code in used],
            rows=rows[stays].astype(np.int32),
            codes=codes.astype(np.int32),
        )


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """A column of numbers, truth values or times."""

    values: NDArray[Any]
    """(rows,), anything where there is none."""
    present: Mask
    """Which rows have one."""

    def mask(self, compare: Compare, num_rows: int) -> Mask:
        """Which rows pass."""
        if compare.operator == "exists":
            return self.present
        if compare.operator == "in":
            found = np.zeros(num_rows, dtype=np.bool_)
            for value in compare.value:
                found |= self.values == value
            return self.present & found
        mask: Mask = self.present & _ORDER[compare.operator](self.values, compare.value)
        return mask

    def joined(self, later: Numbers, num_rows: int) -> Numbers:
        """These rows and after them those of `later`."""
        return Numbers(
            values=np.concatenate([self.values, later.values]), present=np.concatenate([self.present, later.present])
        )

    def taken(self, position: NDArray[np.int64], num_rows: int) -> Numbers:
        """The same with other row numbers; `position` is old row -> new row, -1 for those that go."""
        stays = position >= 0
        values, present = np.zeros(num_rows, self.values.dtype), np.zeros(num_rows, np.bool_)
        values[position[stays]], present[position[stays]] = self.values[stays], self.present[stays]
        return Numbers(values=values, present=present)


Column = Keywords | Numbers


def make_column(kind: ColumnType, name: str, payloads: Sequence[Metadata]) -> Column:
    """The values that the payloads have under `name`."""
    held = [held_values(payload, name) for payload in payloads]
    if kind == "keyword":
        code_of: dict[str, int] = {}
        codes = [code_of.setdefault(word, len(code_of)) for words in held for word in words]
        rows = np.repeat(np.arange(len(held), dtype=np.int32), [len(words) for words in held])
        return Keywords(words=list(code_of), rows=rows.astype(np.int32), codes=np.asarray(codes, dtype=np.int32))
    return Numbers(
        values=np.asarray([values[0] if values else 0 for values in held], dtype=_NUMBERS[kind]),
        present=np.asarray([bool(values) for values in held], dtype=np.bool_),
    )


def filter_mask(filter: Filter, columns: Mapping[str, Column], num_rows: int) -> Mask:
    """Which rows pass; a column that is not there holds nothing."""
    match filter:
        case Compare():
            column = columns.get(filter.column)
            return np.zeros(num_rows, dtype=np.bool_) if column is None else column.mask(filter, num_rows)
        case Not():
            return ~filter_mask(filter.filter, columns, num_rows)
        case All():
            mask = np.ones(num_rows, dtype=np.bool_)
            for part in filter.filters:
                mask &= filter_mask(part, columns, num_rows)
            return mask
        case AnyOf():
            mask = np.zeros(num_rows, dtype=np.bool_)
            for part in filter.filters:
                mask |= filter_mask(part, columns, num_rows)
            return mask


def save_column(column: Column, folder: Path, stem: str) -> None:
    """Write a column into an existing folder, in files that begin with `stem`."""
    if isinstance(column, Keywords):
        (folder / f"{stem}-words.json").write_text(json.dumps(column.words), encoding="utf-8")
        np.save(folder / f"{stem}-rows.npy", column.rows)
        np.save(folder / f"{stem}-codes.npy", column.codes)
    else:
        np.save(folder / f"{stem}-values.npy", column.values)
        np.save(folder / f"{stem}-present.npy", column.present)


def load_column(kind: ColumnType, folder: Path, stem: str) -> Column:
    """What `save_column` wrote."""
    if kind == "keyword":
        return Keywords(
            words=json.loads((folder / f"{stem}-words.json").read_text(encoding="utf-8")),
            rows=np.load(folder / f"{stem}-rows.npy", allow_pickle=False),
            codes=np.load(folder / f"{stem}-codes.npy", allow_pickle=False),
        )
    return Numbers(
        values=np.load(folder / f"{stem}-values.npy", allow_pickle=False),
        present=np.load(folder / f"{stem}-present.npy", allow_pickle=False),
    )


def _mask_of(rows: NDArray[np.int32], num_rows: int) -> Mask:
    mask = np.zeros(num_rows, dtype=np.bool_)
    mask[rows] = True
    return mask
