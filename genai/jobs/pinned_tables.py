"""Which version of each Delta table a run reads: the newest when it begins, and the same one whenever it goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from genai.config.loading import Loaded
from genai.data.tables import SCHEME, split_table_reference
from genai.errors import DataError, UsageError
from genai.jobs.problems import Problems
from genai.jobs.training_run import name_of_run
from genai.log import get_logger
from genai.tables.delta import open_delta
from genai.tracking.run import RunDirectory

TABLES = "tables"
"""Key of inputs.json."""
Pins = Mapping[str, Mapping[str, Any]]
"""Reference -> version and id of the table."""
_log = get_logger(__name__)


def pin_tables(loaded: Loaded[Any], references: Iterable[tuple[str, str]], *, run_name: str | None = None) -> Pins:
    """Look up the version of every table that the job file names; one that cannot be opened is left out.

    Args:
        loaded: the job file.
        references: key and value of what may be a table, as `references_at` gives them.
        run_name: name of the run directory; what it began with is read again.

    Raises:
        ConfigError: there is another table than the one that the run began with.
    """
    tables = [(key, reference) for key, reference in references if reference.startswith(SCHEME)]
    if not tables:
        return {}
    directory = RunDirectory(Path(loaded.config.runs_dir) / name_of_run(loaded, run_name))
    before: Pins = (directory.read_inputs() or {}).get(TABLES, {})
    problems = Problems(loaded)
    pins: dict[str, Mapping[str, Any]] = {}
    for key, reference in tables:
        try:
            uri, version = split_table_reference(reference)
            table = open_delta(uri, version)
        except (UsageError, DataError) as error:
            _log.debug("%s is not pinned: %s", reference, error)  # whoever reads it tells, with all other faults
            continue
        pins[reference] = {"version": table.version, "table_id": table.table_id}
        begun = before.get(reference, pins[reference])
        if begun["table_id"] != table.table_id:
            message = f"{reference} is another table than the one that the run began with"
            problems.add(key, message, "put it back, or start another run with --run-name")
        elif begun["version"] != table.version:
            what = "%s is read at version %s, which run '%s' began with; there is version %s now (--run-name NAME)"
            _log.info(what, reference, begun["version"], directory.name, table.version)
            pins[reference] = begun
    problems.raise_all()
    return pins


def references_at(key: str, path: str | list[str] | None) -> list[tuple[str, str]]:
    """The key with each of its values."""
    return [(key, each) for each in _listed(path)]


def pinned(path: str | list[str] | None, pins: Pins) -> list[str]:
    """References whose tables all name their version."""
    return [_with_version(each, pins) for each in _listed(path)]


def _listed(path: str | list[str] | None) -> list[str]:
    return [path] if isinstance(path, str) else path or []


def _with_version(path: str, pins: Pins) -> str:
    if path not in pins:
        return path
    uri, _ = split_table_reference(path)
    return f"{SCHEME}{uri}@{pins[path]['version']}"
