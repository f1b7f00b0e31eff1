"""The published state that queries are answered from, exchanged for a newer one while queries go on."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from genai.config.embedding import EmbeddingConfig
from genai.errors import DataError, GenaiError, UsageError
from genai.index.interfaces import Encoder, Engine, Reader, Vectors
from genai.index.ledger import Ledger
from genai.index.ledger_records import Generation
from genai.log import get_logger

_ATTEMPTS = 5
"""How often a state may be replaced between being looked up and being opened."""
RETRY_S = 5.0
"""Pause before a newer state that could not be opened is tried again."""
_log = get_logger(__name__)


class QueryEncoder:
    """Embeds queries for one generation; the encoder is made by the first of them.

    Only an endpoint, or an encoder that says that it `is_thread_safe`, is asked by several threads at once: models in
    this process take turns, since tokenizers keep settings between calls, and a model uses all the threads that it may
    have anyway.
    """

    def __init__(self, generation: Generation, encoder_of: Callable[[EmbeddingConfig], Encoder]) -> None:
        self._generation = generation
        self._encoder_of = encoder_of
        self._config = generation.embedding_config
        self._is_remote = self._config.backend == "endpoint" or self._config.base_url is not None
        self._turn = threading.Lock()
        self._encoder: Encoder | None = None

    def embed(self, texts: list[str]) -> Vectors:
        """(n, dim)

        Raises:
            DataError: the encoder is not the one that embedded the chunks.
        """
        with self._turn:
            if self._encoder is None:
                self._encoder = self._open()
            if not (self._is_remote or getattr(self._encoder, "is_thread_safe", False)):
                return self._encoder.embed_queries(texts)
        return self._encoder.embed_queries(texts)

    def _open(self) -> Encoder:
        encoder = self._encoder_of(self._config)
        if encoder.fingerprint != self._generation.fingerprint:
            raise DataError(
                "the encoder has changed since the index was built, so that its queries would find the wrong chunks",
                where=self._config.model,
                fix="bring the old model back, or put the new one in: genai index swap NAME --embedding REF",
            )
        return encoder


@dataclass(kw_only=True)
class Snapshot:
    """A generation as it was published once. Several threads may search it at once."""

    generation: Generation
    reader: Reader
    encoder: QueryEncoder
    num_users: int = 0
    is_replaced: bool = False

    @property
    def is_done(self) -> bool:
        """Whether nobody asks it now, or will."""
        return self.is_replaced and self.num_users == 0


class Snapshots:
    """Gives the newest snapshot to whoever asks, and closes the ones before when their last user is done.

    A newer state of the same encoder is opened by the query that comes first. After a swap to another encoder queries
    go on with the generation before until the new encoder is loaded, so that nobody waits for it.

    Args:
        ledger: of this object alone, since it tells each change once.
        engine: opens published states.
        encoder_of: opens the encoder of a generation.
        pinned: name of a generation to stay with; by default the live one is followed.
    """

    def __init__(
        self,
        ledger: Ledger,
        engine: Engine,
        encoder_of: Callable[[EmbeddingConfig], Encoder],
        *,
        pinned: str | None = None,
    ) -> None:
        self._ledger = ledger
        self._engine = engine
        self._encoder_of = encoder_of
        self._pinned = pinned
        self._lock = threading.RLock()
        self._newest: Snapshot | None = None
        self._look_at = 0.0  # of the monotonic clock; whatever happens in the ledger, look at it then
        self._successor: threading.Thread | None = None

    @contextmanager
    def newest(self) -> Iterator[Snapshot]:
        """A snapshot that stays open until the block ends.

        Raises:
            UsageError: nothing was published yet.
            DataError: what was published is damaged, and there is no older snapshot to go on with.
        """
        with self._lock:
            if self._ledger.changed() or time.monotonic() >= self._look_at or self._newest is None:
                self._look()
            assert self._newest is not None
            snapshot = self._newest
            snapshot.num_users += 1
        try:
            yield snapshot
        finally:
            with self._lock:
                snapshot.num_users -= 1
                done = snapshot.is_done
            if done:  # outside of the lock: closing takes a while
                snapshot.reader.close()

    def is_newest_open(self) -> bool:
        """Whether who asks now waits for nothing: the newest state is open, and nobody opens another one."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self._ledger.changed():
                self.look_again()
            return self._newest is not None and time.monotonic() < self._look_at
        finally:
            self._lock.release()

    def look_again(self) -> None:
        """Let the next one who asks look into the ledger, whether or not it seems to have changed."""
        self._look_at = 0.0

    def close(self) -> None:
        """Let go of everything."""
        if self._successor is not None:
            self._successor.join()
        with self._lock:
            self._replace(None)

    def _look(self) -> None:
        """Open the newest state, unless it is open; when that fails, stay with the one that is open."""
        try:
            self._look_at = math.inf
            generation = self._published()
            if self._newest is None:
                self._replace(self._opened(generation, QueryEncoder(generation, self._encoder_of)))
            elif self._newest.generation.fingerprint != generation.fingerprint:
                self._prepare_successor()
            elif (self._newest.generation.name, self._newest.generation.token) != (generation.name, generation.token):
                self._replace(self._opened(generation, self._newest.encoder))
        except GenaiError as error:
            self._look_at = time.monotonic() + RETRY_S
            if self._newest is None:
                raise
            _log.warning("queries go on with an older state of the index: %s", error)

    def _prepare_successor(self) -> None:
        """Load another encoder beside the one that answers."""
        if self._successor is None or not self._successor.is_alive():
            self._successor = threading.Thread(target=self._succeed, name="index-successor", daemon=True)
            self._successor.start()

    def _succeed(self) -> None:
        try:
            generation = self._published()
            encoder = QueryEncoder(generation, self._encoder_of)
            encoder.embed(["warm up"])
            snapshot = self._opened(generation, encoder)
        except GenaiError as error:
            _log.warning("queries go on with the generation before: %s", error)
            self._look_at = time.monotonic() + RETRY_S
            return
        with self._lock:
            self._replace(snapshot)
            self.look_again()  # a sync may have published meanwhile

    def _published(self) -> Generation:
        generation = self._ledger.live() if self._pinned is None else self._ledger.generation(self._pinned)
        if generation is None or generation.token is None:
            raise UsageError("the index holds nothing to search yet", fix="fill it: genai index CONFIG.yaml")
        return generation

    def _opened(self, generation: Generation, encoder: QueryEncoder) -> Snapshot:
        """What a generation published last, by now: what was looked up may be gone again."""
        for attempt in range(_ATTEMPTS):
            assert generation.token is not None
            try:
                reader = self._engine.reader(generation.spec(self._ledger.name), generation.token)
            except DataError:
                tried, generation = generation, self._published()
                if (tried.name, tried.token) == (generation.name, generation.token) or attempt == _ATTEMPTS - 1:
                    raise
                if tried.fingerprint != generation.fingerprint:
                    encoder = QueryEncoder(generation, self._encoder_of)
            else:
                return Snapshot(generation=generation, reader=reader, encoder=encoder)
        raise AssertionError("the last attempt returns or raises")

    def _replace(self, snapshot: Snapshot | None) -> None:
        before, self._newest = self._newest, snapshot
        if before is not None:
            before.is_replaced = True
            if before.is_done:
                before.reader.close()
