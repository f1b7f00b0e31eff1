"""Takes what a source says over into the ledger: what is new is cut and embedded, what is gone goes, the rest stays."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice

from genai.config.index import IndexConfig
from genai.errors import DataError, GenaiError
from genai.index.cutting import content_hash, cut_document
from genai.index.interfaces import Change, Changes, Document, Encoder
from genai.index.ledger import Ledger
from genai.index.ledger_writing import KnownDocument, batch, document_numbers, failed_versions, known_documents
from genai.index.stopping import Stop
from genai.index.tally import Tally
from genai.index.window import Window
from genai.log import get_logger, progress

_CHANGES_A_LOOK = 256
"""Changes whose documents are looked up in the ledger together."""
_DELETES_A_BATCH = 1000
_log = get_logger(__name__)


class MassDeleteError(GenaiError):
    """A sync would have removed more documents than `sync.max_delete_share` allows."""


class Taking:
    """Takes over one `Changes`.

    Args:
        ledger: that this process holds alone.
        encoder: whose vectors the live generation has.
        config: of the index.
        settings: fingerprint of how documents are read and cut.
        tally: of the sync.
        stop: is asked between batches.
    """

    def __init__(
        self, ledger: Ledger, encoder: Encoder, config: IndexConfig, *, settings: str, tally: Tally, stop: Stop
    ) -> None:
        self._ledger = ledger
        self._encoder = encoder
        self._config = config
        self._settings = settings
        self._tally = tally
        self._stop = stop
        size = config.sync.batch_size
        self._window = Window(ledger, encoder, batch_size=size, settings=settings, tally=tally, stop=stop)
        self._failed = failed_versions(ledger)

    def take(self, changes: Changes, *, max_delete_share: float) -> None:
        """Take everything over.

        Args:
            changes: of the source.
            max_delete_share: of the documents that may go.

        Raises:
            MassDeleteError: more would go; nothing was removed, and what is new waits in the ledger for the next sync.
            StoppedError: a signal came; the batches so far are there.
        """
        before = document_numbers(self._ledger)
        seen = bytearray(max(before, default=0) + 1)
        came: set[str] = set()  # of those that failed before
        deleted: list[str] = []
        done = 0
        rows = iter(changes.rows)
        with progress("indexing", changes.total) as task:
            while some := list(islice(rows, _CHANGES_A_LOOK)):
                upserts = {change.key: change for change in some if change.kind == "upsert"}
                deleted += [change.key for change in some if change.kind == "delete"]
                came.update(upserts.keys() & self._failed.keys())
                known = known_documents(self._ledger, list(upserts))
                for key, change in upserts.items():
                    self._upsert(change, known.get(key))
                for document in known.values():
                    seen[document.number] = 1
                done += len(some)
                task.update(done, **self._tally.shown())
        self._window.flush()
        if changes.complete:
            gone = [number for number in before if not seen[number]]
            forgotten = [key for key in self._failed if key not in came]
        else:
            gone = [document.number for document in known_documents(self._ledger, deleted).values()]
            forgotten = [key for key in deleted if key in self._failed]
        _check_share(len(gone), len(before), max_delete_share)
        self._delete(gone, forgotten)

    def _upsert(self, change: Change, known: KnownDocument | None) -> None:
        seen = (change.version, self._settings)
        if known is not None and (known.version, known.settings) == seen:
            self._tally.unchanged += 1
        elif self._failed.get(change.key) != seen:  # else it would fail again
            self._read(change, known)

    def _read(self, change: Change, known: KnownDocument | None) -> None:
        assert change.load is not None, change.key
        started = time.monotonic()
        try:
            document = change.load()
            self._check(document)
            digest = content_hash(document)
        except DataError as error:
            _log.warning("%s: left out: %s", change.key, error)
            self._window.fail(change.key, change.version, str(error))
            return
        if known is not None and (known.hash, known.settings) == (digest, self._settings):
            self._tally.unchanged += 1
            self._window.keep(known, change.version)
            return
        cut = cut_document(
            document,
            digest=digest,
            version=change.version,
            settings=self._settings,
            chunking=self._config.chunking,
            tokens=self._encoder,
        )
        self._tally.note_document(change.key, time.monotonic() - started)
        self._window.put(cut)

    def _check(self, document: Document) -> None:
        column = self._config.source.tenant
        if column is not None and not document.tenant:
            where = document.source or document.key
            raise DataError(f"its column '{column}' is empty: nobody could find it", where=where)

    def _delete(self, gone: Sequence[int], forgotten: Sequence[str]) -> None:
        for numbers in _portions(gone):
            self._stop.check()
            with batch(self._ledger) as changes:
                removed = sum(changes.remove(number) for number in numbers)
                self._tally.add(changes, {"documents_deleted": len(numbers), "chunks_removed": removed})
        if forgotten:
            with batch(self._ledger) as changes:
                for key in forgotten:
                    changes.forget_failure(key)


def _check_share(num_gone: int, num_before: int, limit: float) -> None:
    if num_gone > limit * num_before:
        what = f"{num_gone} of {num_before} documents would vanish, more than sync.max_delete_share ({limit:g}) allows"
        fix = "see whether the source is whole; if it is: --allow-mass-delete"
        raise MassDeleteError(what, fix=fix)


def _portions(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    for begin in range(0, len(numbers), _DELETES_A_BATCH):
        yield numbers[begin : begin + _DELETES_A_BATCH]
