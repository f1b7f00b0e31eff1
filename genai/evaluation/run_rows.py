"""The rows of a fine-tuning run, read again from its data: what it was trained on, and what it was not shown.

A run's directory holds its job file, and the split is a function of that and the data, so nothing has to be copied.
That the rows are still those of then is checked by their fingerprint in the run's result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from genai.config.finetune import FinetuneConfig, FinetuningDatasetConfig
from genai.config.inherit import read_with_bases
from genai.config.loading import load
from genai.config.schemas import guess_job
from genai.data.prepare import first_rows, load_rows
from genai.data.readers import Record
from genai.data.rows import BadRow, Row
from genai.data.sources import read_records
from genai.data.split import split_rows
from genai.data.tables import SCHEME, OpenTable, split_table_reference
from genai.errors import DataError, UsageError
from genai.registry import suggest
from genai.storage.atomic import safe_name
from genai.tracking.run import RunDirectory

RUNS = "runs:"


@dataclass(frozen=True, kw_only=True)
class RunRows:
    """Both sides of a run's data."""

    run: str
    train: tuple[Row, ...]
    """What it was trained on."""
    held_out: tuple[Row, ...]
    """What it was measured with; empty where it held nothing back."""
    held_out_from: FinetuningDatasetConfig
    """The data set that these stand in."""

    def held_out_records(self, *, open_table: OpenTable | None) -> list[Record]:
        """The held-out rows with all columns that their files have.

        Raises:
            UsageError: the run held nothing back, or read shards, whose rows have no other columns.
        """
        where = f"{RUNS}{self.run}"
        if not self.held_out:
            fix = "write data.split in its job file and train again, or name a file of your own"
            raise UsageError("the run held no rows back", where=where, fix=fix)
        dataset = self.held_out_from
        if dataset.path is None and dataset.hf_name is None:
            raise UsageError("the run was trained on shards", where=where, fix="name a file of your own")
        sources = {row.source for row in self.held_out}
        records = read_records(
            dataset.path or f"hf:{dataset.hf_name}",
            split=dataset.split,
            hf_kwargs=dataset.hf_kwargs,
            open_table=open_table,
        )
        return [record for record in records if not isinstance(record, BadRow) and record.source in sources]


def read_run_rows(reference: str, *, runs_dir: str | Path, open_table: OpenTable | None) -> RunRows:
    """The rows of a run.

    Args:
        reference: `runs:RUN`, of `genai finetune`.
        runs_dir: where run directories lie.
        open_table: opens what `delta:` names.

    Raises:
        UsageError: there is no such run, or it is one of another job.
        DataError: the data are no longer what the run read.
    """
    directory = _open(reference.removeprefix(RUNS), Path(runs_dir))
    config = _config_of(directory, reference)
    versions = (directory.read_inputs() or {}).get("tables", {})
    dataset = _pinned(config.train_loader.dataset, versions)
    train = load_rows(dataset, config.data, open_table=open_table).rows
    held_out: tuple[Row, ...] = ()
    held_out_from = dataset
    if config.eval_loader is not None:
        held_out_from = _pinned(config.eval_loader.dataset, versions)
        rows = load_rows(held_out_from, config.data, open_table=open_table)
        held_out = first_rows(rows, held_out_from.max_rows).rows
    elif config.data.split is not None and train:
        train, held_out = split_rows(train, config.data.split)
    train = train[: dataset.max_rows]
    _check_unchanged(directory, reference, (*train, *held_out))
    return RunRows(run=directory.name, train=train, held_out=held_out, held_out_from=held_out_from)


def _open(name: str, runs_dir: Path) -> RunDirectory:
    path = runs_dir / safe_name(name, kind="run name")
    if not path.is_dir():
        there = sorted(each.name for each in runs_dir.iterdir() if each.is_dir()) if runs_dir.is_dir() else []
        near = suggest(name, there)
        fix = f"did you mean 'runs:{near}'?" if near else "see: genai runs ls"
        raise UsageError(f"there is no run '{name}' in {runs_dir}", fix=fix)
    return RunDirectory(path)


def _config_of(directory: RunDirectory, reference: str) -> FinetuneConfig:
    path = directory.path / "config.yaml"
    if not path.is_file():
        raise UsageError("the run has no config.yaml", where=reference, fix="name the data by their path")
    tree, _ = read_with_bases(path)
    job = guess_job(path, tree)
    if job != "finetune":
        what = f"the run is one of genai {job}, only those of genai finetune can name their rows"
        raise UsageError(what, where=reference, fix="name the data by their path")
    return load(path, FinetuneConfig).config


def _pinned(dataset: FinetuningDatasetConfig, versions: Mapping[str, Any]) -> FinetuningDatasetConfig:
    """The data set with its tables at the versions that the run read."""
    if dataset.path is None:
        return dataset
    paths = [dataset.path] if isinstance(dataset.path, str) else dataset.path
    return replace(dataset, path=[_at_version(path, versions) for path in paths])


def _at_version(path: str, versions: Mapping[str, Any]) -> str:
    if path not in versions:
        return path
    uri, _ = split_table_reference(path)
    return f"{SCHEME}{uri}@{versions[path]['version']}"


def _check_unchanged(directory: RunDirectory, reference: str, rows: tuple[Row, ...]) -> None:
    """Hold the rows against the fingerprint in the run's result (of an unfinished run there is none)."""
    read = (directory.read_result() or {}).get("rows")
    if read is not None and read != hashlib.sha256("".join(row.key for row in rows).encode()).hexdigest():
        raise DataError(
            "the data are no longer what the run read, so nobody can tell which rows it was not shown",
            where=reference,
            fix="bring the old data back, or name a file that holds the rows to measure with",
        )
