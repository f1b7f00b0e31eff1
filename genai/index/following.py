"""Continuous mode: follows a source until a signal comes, and waits for it while it cannot be reached."""

from __future__ import annotations

import time
from collections.abc import Callable

from genai.errors import CredentialsError, GenaiError, StoppedError, UsageError
from genai.index.sync import Parts, SyncReport, sync_once
from genai.index.taking import MassDeleteError
from genai.log import get_logger

LONGEST_PAUSE_S = 60.0
"""Between two looks at a source that cannot be reached."""
_log = get_logger(__name__)


def run_continuous(
    parts: Parts,
    *,
    once: Callable[..., SyncReport] = sync_once,
    allow_mass_delete: bool = False,
    wait: Callable[[float], bool] | None = None,
) -> None:
    """Sync whenever the source changed, until `parts.stop` is asked.

    A failure of the source, the encoder or the disk is told and tried again, with pauses that grow to a minute; the
    index answers queries meanwhile. Before the first sync that went well, what is wrong with the config or the
    credentials ends it, since waiting would not mend that.

    Args:
        parts: of the index. Nobody else may follow its source meanwhile; between two looks at it others may change the
            index, e.g. put a new encoder in.
        once: makes one sync, called like `sync_once`; a job wraps it in the directory of a run.
        allow_mass_delete: let any number of documents go.
        wait: pauses for seconds, and says whether to stop; by default `parts.stop.wait`.

    Raises:
        StoppedError: always, when all goes well: it is how this ends.
        MassDeleteError: too many documents would go: a person has to decide.
        UsageError, CredentialsError: see above.
        GenaiError: another process follows it already.
    """
    wait = wait or parts.stop.wait
    poll_s = parts.config.sync.poll_s
    pause_s, went_well, failing_since = poll_s, False, None
    with parts.ledger.following():
        while True:
            parts.stop.check()
            try:
                with parts.ledger.alone():
                    report = once(parts, allow_mass_delete=allow_mass_delete, check=not went_well)
            except (StoppedError, MassDeleteError):
                raise
            except GenaiError as error:
                if not went_well and isinstance(error, (UsageError, CredentialsError)):
                    raise
                failing_since = failing_since or time.monotonic()
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                _log.warning("index '%s': %s; next try in %.3g s", parts.ledger.name, error, pause_s)
            else:
                if failing_since is not None:
                    lasted_s = time.monotonic() - failing_since
                    _log.info("index '%s': all is well again, after %.0f s", parts.ledger.name, lasted_s)
                pause_s, went_well, failing_since = poll_s, True, None
                if report.changed:
                    _tell(parts, report)
            wait(pause_s)


def _tell(parts: Parts, report: SyncReport) -> None:
    _log.info(
        "index '%s': sync %s: %d documents in, %d out, %d failed; %d chunks new, %d gone, %d embedded; %.2f s",
        parts.ledger.name,
        report.number,
        report.documents_upserted,
        report.documents_deleted,
        report.documents_failed,
        report.chunks_new,
        report.chunks_removed,
        report.embeddings_new,
        report.seconds,
    )
