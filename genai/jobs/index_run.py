"""The run directory of syncs: opened when there is something to look at, kept when something changed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.config.index import IndexConfig
from genai.config.loading import Loaded
from genai.index.sync import Parts, SyncReport, sync_once
from genai.jobs.index_parts import write_config
from genai.jobs.index_result import IndexResult, position_of, result_of
from genai.log import get_logger
from genai.storage.atomic import remove_directory, safe_name
from genai.tracking.run import RunDirectory

if TYPE_CHECKING:
    from genai.config.index import ColumnType
    from genai.index.interfaces import Changes, Encoder, Source

_REPORT_EVERY_S = 60.0
"""In continuous mode the report is not written anew more often, and once more at the end."""
_log = get_logger(__name__)


class SyncRun:
    """A run of syncs: one, or in continuous mode all that a process makes. A context manager.

    Its directory is opened when the first of them has found changes to look at, and goes again when nothing changed.

    Args:
        loaded: the job file.
        run_name: name of the run directory; by default what the job file says, else the index's and a number.
    """

    def __init__(self, loaded: Loaded[IndexConfig], *, run_name: str | None) -> None:
        self._loaded = loaded
        self._name = run_name or loaded.config.run_name
        self._stack = ExitStack()
        self._directory: RunDirectory | None = None
        self._began_at: Mapping[str, Any] | None = None
        self._result: IndexResult | None = None
        self._write_report: Callable[[], None] | None = None
        self._reported_s = -math.inf
        self._other_encoder: Encoder | None = None

    @property
    def result(self) -> IndexResult:
        """Of the last sync that changed something; of the first one as long as nothing did."""
        assert self._result is not None
        return self._result

    def __enter__(self) -> SyncRun:
        return self

    def __exit__(self, *error: Any) -> None:
        self._report()
        self._stack.__exit__(*error)
        nothing_changed = self._result is not None and self._result.run is None
        if self._directory is not None and nothing_changed:
            remove_directory(self._directory.path)

    def sync(self, parts: Parts, *, allow_mass_delete: bool = False, check: bool = True) -> SyncReport:
        """Bring the index up to its source; the job file is noted in the index when that went well.

        Args:
            parts: of the index, which this process holds alone.
            allow_mass_delete: go on although many documents are gone from the source.
            check: see `genai.index.sync.sync_once`.
        """
        parts = self._with_live_encoder(parts)
        assert parts.source is not None
        source = _Announced(parts.source, lambda: self._begin(parts))
        report = sync_once(replace(parts, source=source), allow_mass_delete=allow_mass_delete, check=check)
        if self._other_encoder is None:
            write_config(parts.ledger, self._loaded)
        if report.changed and self._directory is not None:
            self._note(parts, self._directory, report)
        elif self._result is None:
            self._result = result_of(parts.ledger, report.kind if report.changed else "nothing", report)
        return report

    def _with_live_encoder(self, parts: Parts) -> Parts:
        """While this process follows the source, another one may put a new encoder in: then go on with that one."""
        live = parts.ledger.live()
        if self._result is None or live is None or parts.encoder_of is None:
            return parts
        present = self._other_encoder or parts.encoder
        if live.fingerprint != present.fingerprint:
            _log.info("index '%s': from now on embedded by %s", parts.ledger.name, live.embedding_config.model)
            self._other_encoder = parts.encoder_of(live.embedding_config)
        if self._other_encoder is None:
            return parts
        config = replace(parts.config, embedding=live.embedding_config)
        return replace(parts, encoder=self._other_encoder, config=config)

    def _begin(self, parts: Parts) -> None:
        """Open the run directory, which stays this process's until the run is left."""
        if self._directory is not None:
            return
        from genai.jobs.training_run import keep_status, write_beginning

        directory = RunDirectory.open(self._loaded.config.runs_dir, self._free_name(parts))
        self._stack.enter_context(directory.lock())
        self._stack.enter_context(directory.log_to_file())
        self._stack.enter_context(keep_status(directory))
        self._began_at = parts.ledger.source_note().state
        write_beginning(directory, self._loaded, _lineage(parts, self._began_at, None))
        self._directory = directory

    def _note(self, parts: Parts, directory: RunDirectory, report: SyncReport) -> None:
        """Write down what a sync did."""
        from genai.jobs import index_report

        directory.write_inputs(_lineage(parts, self._began_at, report.to_state))
        result = result_of(parts.ledger, report.kind, report, run=directory.name, html=str(directory.report))
        directory.write_result(result.to_json())
        self._result = result
        self._write_report = lambda: index_report.write(directory, self._loaded, parts.ledger, report, result)
        if time.monotonic() - self._reported_s >= _REPORT_EVERY_S:
            self._report()

    def _report(self) -> None:
        """Write the report of what was noted last, unless that is done already."""
        if self._write_report is not None:
            self._write_report()
            self._write_report, self._reported_s = None, time.monotonic()

    def _free_name(self, parts: Parts) -> str:
        """A name that no finished run has."""
        runs_dir = Path(self._loaded.config.runs_dir)
        syncs = parts.ledger.syncs(1)
        number = 1 if self._name else (syncs[0].number + 1 if syncs else 1)
        name = safe_name(self._name or f"{parts.ledger.name}-{number}", kind="run name")
        while (runs_dir / name / "result.json").is_file():
            number += 1
            name = f"{self._name or parts.ledger.name}-{number}"
        return name


def _lineage(parts: Parts, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> dict[str, Any]:
    """From the version of the source to the encoder."""
    assert parts.source is not None
    return {
        "source": {"uri": parts.source.uri, "from": position_of(before), "to": position_of(after)},
        "embedding": {
            "model": parts.config.embedding.model,
            "fingerprint": parts.encoder.fingerprint,
            "dimension": parts.encoder.dimension,
        },
        "index": {"name": parts.ledger.name, "path": str(parts.ledger.folder)},
    }


class _Announced:
    """A source that tells when its changes were found; meets `genai.index.interfaces.Source`."""

    def __init__(self, source: Source, tell: Callable[[], None]) -> None:
        self._source = source
        self._tell = tell

    @property
    def uri(self) -> str:
        """See `Source`."""
        return self._source.uri

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """See `Source`."""
        return self._source.columns

    def position(self) -> Mapping[str, Any] | None:
        """See `Source`."""
        return self._source.position()

    def changes(self, state: Mapping[str, Any] | None) -> Changes:
        """See `Source`."""
        changes = self._source.changes(state)
        self._tell()  # not before: a source that cannot be read is no run
        return changes
