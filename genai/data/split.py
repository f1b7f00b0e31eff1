"""Hold back rows for evaluation: a stable choice by hash, with rows that belong together on the same side.

A group goes to the validation side when a hash of (seed, group) falls below the wanted share. The choice for a group
depends on nothing else, neither on the order of the rows nor on the other rows, so that a data set can grow without old
evaluation rows turning into training rows. (A number of rows is first turned into a share of the rows that there are;
with more rows the share falls, and some evaluation rows turn into training rows, but never the other way round.)
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from genai.config.finetune import SplitConfig
from genai.data.disjoint_sets import DisjointSets
from genai.data.faults import DataConfigError, data_fault
from genai.data.near_duplicates import near_duplicate_groups
from genai.data.rows import Row
from genai.log import get_logger

NEAR_DUPLICATES = "near_duplicates"
"""The word in `data.split.group_by` that is no column."""
_LARGE_GROUP = 0.5
_KEY = "data.split.validation"
_log = get_logger(__name__)


def group_columns(cfg: SplitConfig | None) -> tuple[str, ...]:
    """The columns of `group_by`."""
    names = () if cfg is None or cfg.group_by is None else cfg.group_by
    return tuple(name for name in ([names] if isinstance(names, str) else names) if name != NEAR_DUPLICATES)


def split_rows(rows: Sequence[Row], cfg: SplitConfig) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Training and validation rows, each in their old order.

    Args:
        rows: rows of one data set; those with the same `group` (or without one, the same content) stay together.
        cfg: how many go to validation, what stays together, and the seed.

    Raises:
        DataConfigError: one side would be empty.
    """
    share = cfg.validation if isinstance(cfg.validation, float) else cfg.validation / max(1, len(rows))
    if share >= 1:
        raise data_fault(f"validation of {cfg.validation} takes all {len(rows)} rows", key=_KEY, fix="lower it")
    groups = row_groups(rows, cfg)
    held_back = {group for group in set(groups) if hash_position(cfg.seed, group) < share}
    train = tuple(row for row, group in zip(rows, groups, strict=True) if group not in held_back)
    validation = tuple(row for row, group in zip(rows, groups, strict=True) if group in held_back)
    _check_sides(len(train), len(validation), groups, cfg)
    return train, validation


def row_groups(rows: Sequence[Row], cfg: SplitConfig) -> list[str]:
    """The group of each row: its columns, or its content; with near duplicates joined, the smallest of their names."""
    names = [row.group or row.key for row in rows]
    wanted = [cfg.group_by] if isinstance(cfg.group_by, str) else cfg.group_by or []
    if NEAR_DUPLICATES not in wanted:
        return names
    return _join(names, near_duplicate_groups(rows))


def hash_position(seed: int, group: str) -> float:
    """Where a group lies between 0 and 1."""
    digest = hashlib.sha256(f"{seed}:{group}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _join(names: Sequence[str], twins: Sequence[int]) -> list[str]:
    """One name for all rows that are tied by equal names or by being near duplicates, over any number of steps."""
    sets = DisjointSets(len(names))
    first: dict[str, int] = {}
    for index, (name, twin) in enumerate(zip(names, twins, strict=True)):
        sets.join(index, twin)
        sets.join(index, first.setdefault(name, index))
    smallest: dict[int, str] = {}
    for index, name in enumerate(names):
        smallest[sets.root(index)] = min(name, smallest.get(sets.root(index), name))
    return [smallest[sets.root(index)] for index in range(len(names))]


def _check_sides(num_train: int, num_validation: int, groups: Sequence[str], cfg: SplitConfig) -> None:
    counts = Counter(groups)
    largest = max(counts.values(), default=0)
    if num_train and num_validation:
        if largest > _LARGE_GROUP * len(groups):
            _log.warning("data.split: one group holds %d of %d rows", largest, len(groups))
        return
    raise _one_side_empty("evaluate" if num_train else "train", len(groups), len(counts), cfg)


def _one_side_empty(purpose: str, num_rows: int, num_groups: int, cfg: SplitConfig) -> DataConfigError:
    other = "raise" if purpose == "evaluate" else "lower"
    message = f"validation of {cfg.validation} of {num_rows} rows in {num_groups} groups leaves none to {purpose} on"
    return data_fault(message, key=_KEY, fix=f"{other} data.split.validation, or take another data.split.seed")
