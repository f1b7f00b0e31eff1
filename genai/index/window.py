"""Documents that wait to be written together: what they lack is embedded in batches, sorted by length.

A batch is one transaction: the embeddings of at most `batch_size` texts, the last one with the documents themselves. So
a kill costs one batch of embeddings at most, and no document is ever there by half.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from genai.index.cutting import CutDocument
from genai.index.encoding import encode, slices
from genai.index.interfaces import Encoder
from genai.index.ledger import Ledger
from genai.index.ledger_writing import Batch, KnownDocument, batch, missing_embeddings
from genai.index.stopping import Stop
from genai.index.tally import Tally

_WRITES_A_BATCH = 4
"""Times the batch size: so many chunks are written in a transaction at most when few of them have to be embedded."""
Write = Callable[[Batch], Mapping[str, int]]
"""Writes one document, and says what to count."""


class Window:
    """See the module.

    Args:
        ledger: that this process holds alone.
        encoder: whose vectors the live generation has.
        batch_size: chunks that are embedded at once.
        settings: fingerprint of how documents are read and cut.
        tally: of the sync.
        stop: is asked between batches.
    """

    def __init__(
        self, ledger: Ledger, encoder: Encoder, *, batch_size: int, settings: str, tally: Tally, stop: Stop
    ) -> None:
        self._ledger = ledger
        self._encoder = encoder
        self._batch_size = batch_size
        self._settings = settings
        self._tally = tally
        self._stop = stop
        self._writes: list[Write] = []
        self._num_chunks = 0
        self._missing: dict[bytes, str] = {}
        self._tokens: dict[bytes, int] = {}

    def put(self, document: CutDocument) -> None:
        """A document is new, or says something else than before."""

        def write(changes: Batch) -> Mapping[str, int]:
            put = changes.put(document)
            return {"documents_upserted": 1, "chunks_new": put.chunks_new, "chunks_removed": put.chunks_removed}

        chunks = {chunk.hash: chunk for chunk in document.chunks if chunk.hash not in self._missing}
        for digest in missing_embeddings(self._ledger, self._encoder.fingerprint, list(chunks)):
            self._missing[digest] = chunks[digest].text
            self._tokens[digest] = chunks[digest].tokens
        self._add(write, num_chunks=len(document.chunks))

    def keep(self, known: KnownDocument, version: str) -> None:
        """A document says the same as before in another version."""

        def write(changes: Batch) -> Mapping[str, int]:
            changes.keep(known, version=version, settings=self._settings)
            return {}

        self._add(write)

    def fail(self, key: str, version: str, reason: str) -> None:
        """A document cannot be read; what was known of it stays."""

        def write(changes: Batch) -> Mapping[str, int]:
            changes.fail(key, version=version, settings=self._settings, reason=reason)
            return {"documents_failed": 1}

        self._add(write)

    def flush(self) -> None:
        """Embed what is missing, and write everything.

        Raises:
            StoppedError: a signal came; the batches so far are there.
        """
        portions = list(slices(self._missing, self._batch_size)) or [[]]
        for portion in portions[:-1]:
            self._write(portion, [])
        self._write(portions[-1], self._writes)
        self._writes, self._num_chunks = [], 0
        self._missing, self._tokens = {}, {}

    def _add(self, write: Write, *, num_chunks: int = 0) -> None:
        self._writes.append(write)
        self._num_chunks += max(num_chunks, 1)
        if len(self._missing) >= self._batch_size or self._num_chunks >= _WRITES_A_BATCH * self._batch_size:
            self.flush()

    def _write(self, portion: Sequence[tuple[bytes, str]], writes: Sequence[Write]) -> None:
        self._stop.check()
        started = time.monotonic()
        vectors = encode(self._encoder, [text for _, text in portion])
        self._tally.embed_s += time.monotonic() - started
        digests = [digest for digest, _ in portion]
        counts = Counter(embeddings_new=len(digests), tokens=sum(self._tokens[digest] for digest in digests))
        with batch(self._ledger) as changes:
            if digests:
                changes.add_embeddings(self._encoder.fingerprint, zip(digests, vectors, strict=True))
            for write in writes:
                counts.update(write(changes))
            self._tally.add(changes, counts)
