"""Runs of `genai eval` that are looked at again: found by name, read, and one of their targets chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from genai.errors import DataError, UsageError
from genai.evaluation.files import EXAMPLES_FILE, RESULT_FILE, ExampleRow, read_examples, read_result
from genai.evaluation.records import EvalResult
from genai.registry import suggest
from genai.tracking.catalog import find_run
from genai.tracking.run import RunDirectory


@dataclass(frozen=True)
class EvalRun:
    """A finished evaluation, and one of its targets."""

    directory: RunDirectory
    result: EvalResult
    target: str

    @property
    def label(self) -> str:
        """What it is called beside another one: the run, and the target where the run has several."""
        return self.directory.name if len(targets_of(self.result)) == 1 else f"{self.directory.name}/{self.target}"

    @cached_property
    def rows(self) -> Mapping[tuple[str, str], ExampleRow]:
        """(data set, id) -> what the target made of it.

        Raises:
            DataError: the examples are gone or damaged.
        """
        rows = read_examples(self.directory.path / EXAMPLES_FILE)
        return {row.key: row for row in rows if row.target == self.target}

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """Its job file, as it was merged; empty where it is gone."""
        import yaml

        return yaml.safe_load(self.directory.read_config() or "") or {}


def open_run(text: str, runs_dir: str | Path) -> EvalRun:
    """The run that `text` names: RUN, or RUN/TARGET where it has several targets; `runs:` before it changes nothing.

    Raises:
        UsageError: there is no such run or target; says what there is.
        DataError: it is no finished evaluation.
    """
    name, _, target = text.removeprefix("runs:").partition("/")
    directory = find_run(Path(runs_dir), name)
    result = read_result(directory.path / RESULT_FILE)
    known = targets_of(result)
    if not target and len(known) == 1:
        return EvalRun(directory, result, known[0])
    every = [*known, *([result.baseline] if result.baseline is not None else [])]
    if not target:
        choices = ", ".join(f"{directory.name}/{each}" for each in every)
        raise UsageError(f"run '{directory.name}' measured {len(known)} targets", fix=f"name one of them: {choices}")
    if target not in every:
        near = suggest(target, every)
        fix = f"did you mean '{directory.name}/{near}'?" if near else f"it measured: {', '.join(every)}"
        raise UsageError(f"run '{directory.name}' has no target '{target}'", fix=fix)
    return EvalRun(directory, result, target)


def content_of(directory: RunDirectory, result: EvalResult, dataset: str) -> str | None:
    """Fingerprint of a data set's content as a run measured it; None where it noted none."""
    noted = ((directory.read_inputs() or {}).get("datasets") or {}).get(dataset) or {}
    found: str | None = noted.get("fingerprint") or result.fingerprints.get(dataset)
    return found


def targets_of(result: EvalResult) -> list[str]:
    """The targets of an evaluation, without its baseline.

    Raises:
        DataError: there is none.
    """
    found = [name for name in result.targets if name != result.baseline]
    if not found:
        raise DataError("this evaluation has no target", where=result.path)
    return found
