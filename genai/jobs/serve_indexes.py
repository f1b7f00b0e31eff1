"""Indexes as `genai serve` asks and changes them; meets `genai.serving.interfaces.IndexAccess`.

Every worker process opens an index for itself: published states are written to no more. A question that needs no model
is answered where it is asked, if the engine would keep Python's lock anyway; all else goes to threads.

A change is one transaction of the ledger, and one at a time: in a process they queue, between processes the ledger's
lock is waited for. Who vanishes meanwhile changes nothing in that: it is brought to its end, or never begun.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from genai.config.embedding import EmbeddingConfig, RerankerConfig
from genai.config.index import IndexConfig
from genai.errors import GenaiError, UsageError
from genai.index.ledger import LEDGER, Ledger
from genai.jobs.index_edit import check_direct, documents_of
from genai.jobs.index_parts import CONFIG, folder_of, open_index_engine, open_ledger, read_config
from genai.log import get_logger
from genai.serving.interfaces import IndexAnswer, IndexChange, IndexQuery, UnavailableError
from genai.tracking.lock import HeldError

if TYPE_CHECKING:
    from genai.index.interfaces import Document, Encoder, Engine, Reranker, Vectors
    from genai.index.search import Index
    from genai.index.sync import SyncReport

EncoderOf = Callable[[EmbeddingConfig], "Encoder"]
RerankerOf = Callable[[RerankerConfig], "Reranker"]
EmbedTexts = Callable[[list[str], Literal["document", "query"]], Sequence[bytes]]
"""Vectors of texts, float32 little endian; waits for them."""
_MAX_THREADS = 16
"""Questions to an index that wait for a model, or search, beside one another."""
_MAX_EDITS = 64
"""Changes to an index that wait in a process."""
_EDIT_WAIT_S = 30.0
"""How long a change waits while another process changes the index."""
_OPEN_AGAIN_S = 1.0
"""Pause before an index that could not be opened is tried again."""
_LOOK_EVERY_S = 0.2
"""Whether an index is still the one that was opened."""
_TEXTS_AT_ONCE = 64
"""That an encoder is asked for by one request to it, so that others come in between."""
_QUICK_K = 100
"""Up to so many results are read from the ledger in no time."""
_ONE_TRANSACTION = 1 << 30
_SOURCE = "api"
"""What documents that come over HTTP name as their source."""
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class IndexCard:
    """What a server needs to know of an index before it is asked."""

    name: str
    embedding: EmbeddingConfig
    """Of the generation that answers."""
    fingerprint: str | None
    """That its encoder must have; None as long as nothing was published."""
    dimension: int | None
    reranker: RerankerConfig | None
    is_direct: bool
    """Whether rows may be put there."""
    num_chunks: int


def index_card(index: str, indexes_dir: str | Path) -> IndexCard:
    """What an index needs.

    Raises:
        UsageError: there is none of that name; the nearest is suggested.
        DataError: it is damaged, or was never built to its end.
    """
    with open_ledger(index, indexes_dir) as ledger:
        config, live = read_config(ledger), ledger.live()
        return IndexCard(
            name=index,
            embedding=config.embedding,
            fingerprint=live.fingerprint if live else None,
            dimension=live.dimension if live else None,
            reranker=config.search.reranker,
            is_direct=config.source.direct,
            num_chunks=ledger.num_chunks(),
        )


class ServedIndex:
    """One index of a server, in one of its worker processes; opened when it is made.

    Args:
        name: of the endpoint.
        index: its own name.
        indexes_dir: where indexes lie.
        encoder_of: gives the encoder of a generation; asked when the first text comes. No model should be loaded in
            this process by it.
        reranker_of: the same for what `search.reranker` names, but for mmr.
        writable: whether rows may be put there and removed.
        edit_wait_s: how long a change waits while another process changes the index.

    Raises:
        UsageError: there is no such index, or it is to be writable and follows a source.
        DataError: it is damaged, or was never built to its end.
    """

    def __init__(
        self,
        name: str,
        *,
        index: str,
        indexes_dir: str | Path,
        encoder_of: EncoderOf,
        reranker_of: RerankerOf,
        writable: bool = False,
        edit_wait_s: float = _EDIT_WAIT_S,
    ) -> None:
        self.name = name
        self.writable = writable
        self._index_name = index
        self._indexes_dir = Path(indexes_dir)
        self._encoder_of = encoder_of
        self._reranker_of = reranker_of
        self._edit_wait_s = edit_wait_s
        self._lock = threading.Lock()
        self._open_again_at = 0.0
        self._num_edits = 0
        self._opened: _Opened | None = self._open()
        if writable:
            try:
                check_direct(self._opened.index.config)
            except UsageError:
                self._opened.index.close()
                raise
        self._asking = ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix=f"index-{name}")
        self._editing = ThreadPoolExecutor(1, thread_name_prefix=f"edit-{name}")

    # --- asking -------------------------------------------------------------------------------------------------------

    async def query(self, query: IndexQuery) -> IndexAnswer:
        """The best chunks for a question.

        Raises:
            UsageError: the index cannot be asked this.
            UnavailableError: it is gone, damaged, or its models do not answer.
        """
        opened = self._opened
        if opened is not None and opened.answers_at_once(query):
            return self._answer(query)
        return await asyncio.get_running_loop().run_in_executor(self._asking, self._answer, query)

    def _answer(self, query: IndexQuery) -> IndexAnswer:
        with self._using() as index, self._explained("asked", mendable=UsageError):
            return _search(index, query)

    # --- changing -----------------------------------------------------------------------------------------------------

    async def upsert(self, rows: Sequence[Mapping[str, Any]]) -> IndexChange:
        """Put rows there, in place of those with the same keys: all of them, or none.

        Raises:
            ConfigError: rows cannot be used; each of them is named, nothing was written.
            UnavailableError: somebody else changes the index for too long, or the encoder does not answer.
        """
        return await self._edit(lambda: self._upsert(rows))

    async def delete(self, keys: Sequence[str]) -> IndexChange:
        """Remove documents; keys that are not there are passed over.

        Raises:
            UnavailableError: somebody else changes the index for too long.
        """
        return await self._edit(lambda: self._delete(keys))

    def close(self) -> None:
        """Let go of the index, when what is under way is over."""
        self._asking.shutdown(wait=True, cancel_futures=True)
        self._editing.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.index.close()

    async def _edit(self, edit: Callable[[], IndexChange]) -> IndexChange:
        with self._lock:
            if self._num_edits >= _MAX_EDITS:
                raise UnavailableError(f"{self._num_edits} changes to '{self.name}' are waiting already")
            self._num_edits += 1
        future = self._editing.submit(edit)
        future.add_done_callback(lambda _: self._edit_is_over())
        return await asyncio.wrap_future(future)

    def _edit_is_over(self) -> None:
        with self._lock:
            self._num_edits -= 1

    def _upsert(self, rows: Sequence[Mapping[str, Any]]) -> IndexChange:
        from genai.index import sync

        with self._using() as index:
            documents = _documents(rows, index.config)

        def edit(ledger: Ledger, encoder: Encoder, engine: Engine, config: IndexConfig) -> SyncReport:
            return sync.upsert(ledger, documents, encoder, engine, config, **self._how())

        report = self._change(edit)
        return _told(report, documents=report.documents_upserted, chunks=report.chunks_new)

    def _delete(self, keys: Sequence[str]) -> IndexChange:
        from genai.index import sync

        def edit(ledger: Ledger, encoder: Encoder, engine: Engine, config: IndexConfig) -> SyncReport:
            return sync.delete(ledger, keys, encoder, engine, config, **self._how())

        report = self._change(edit)
        return _told(report, documents=report.documents_deleted, chunks=report.chunks_removed)

    def _how(self) -> _How:
        # A state that the engine cannot go on with is made anew anyway; to look at it first would take as long again.
        return {"encoder_of": self._encoder_of, "wait_s": self._edit_wait_s, "check": False}

    def _change(self, edit: Callable[[Ledger, Encoder, Engine, IndexConfig], SyncReport]) -> SyncReport:
        with (
            self._explained("changed"),
            open_ledger(self._index_name, self._indexes_dir, read_only=False) as ledger,
        ):
            config = read_config(ledger)
            # Else a kill would leave the first of many chunks in the ledger, which the next change would publish.
            whole = replace(config, sync=replace(config.sync, batch_size=_ONE_TRANSACTION))
            return edit(ledger, self._encoder_of(config.embedding), open_index_engine(config, ledger), whole)

    # --- opening ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _using(self) -> Iterator[Index]:
        """The index, which stays open until the block ends."""
        with self._lock:
            opened = self._there()
            opened.num_users += 1
        try:
            yield opened.index
        finally:
            with self._lock:
                opened.num_users -= 1
                is_done = opened.num_users == 0 and opened is not self._opened
            if is_done:
                opened.index.close()

    def _there(self) -> _Opened:
        """What is open, opened anew when another index lies there by now."""
        opened = self._opened
        if opened is not None and (opened.is_unchanged() or opened.is_alike()):
            return opened
        self._opened = None
        if opened is not None and opened.num_users == 0:
            opened.index.close()
        if time.monotonic() < self._open_again_at:
            raise UnavailableError(f"index '{self.name}' cannot be opened at the moment")
        self._open_again_at = time.monotonic() + _OPEN_AGAIN_S
        with self._explained("opened"):
            self._opened = self._open()
        self._open_again_at = 0.0
        return self._opened

    def _open(self) -> _Opened:
        from genai.index.search import Index

        folder = folder_of(self._index_name, self._indexes_dir)
        ledger = open_ledger(self._index_name, self._indexes_dir)
        try:
            identities = _identities(folder / LEDGER, folder / CONFIG)
            config = read_config(ledger)
            reranker = config.search.reranker
            index = Index(
                ledger,
                config,
                encoder_of=self._encoder_of,
                engine=open_index_engine(config, ledger),
                reranker=None if reranker is None or reranker.name == "mmr" else self._reranker_of(reranker),
            )
        except BaseException:
            ledger.close()
            raise
        return _Opened(index, folder, identities)

    @contextmanager
    def _explained(self, verb: str, *, mendable: type[GenaiError] | None = None) -> Iterator[None]:
        """What the asker cannot mend goes to the log, and is told without inner details."""
        try:
            yield
        except UnavailableError:
            raise
        except GenaiError as error:
            if mendable is not None and isinstance(error, mendable):
                raise
            _log.warning("index '%s' cannot be %s: %s", self.name, verb, error)
            if isinstance(error, HeldError):
                what = f"index '{self.name}' was being changed by another process for {self._edit_wait_s:g} s"
                raise UnavailableError(what, retry_after_s=5) from error
            raise UnavailableError(f"index '{self.name}' cannot be {verb} at the moment") from error


class _How(TypedDict):
    """How an index is changed; see `genai.index.sync.upsert`."""

    encoder_of: EncoderOf
    wait_s: float
    check: bool


class _Opened:
    """An index that is open.

    Args:
        index: opened.
        folder: where it lies.
        identities: of its ledger and its config, when they were opened.
    """

    def __init__(self, index: Index, folder: Path, identities: _Identities) -> None:
        self.index = index
        self.num_users = 0
        self._ledger_file, self._config_file = os.fspath(folder / LEDGER), os.fspath(folder / CONFIG)
        self._identities = identities
        self._look_at = 0.0
        # It keeps Python's lock while it searches, so that a thread of its own would win nothing.
        self._is_quick = index.config.engine.name == "qdrant_edge"
        self._search = index.config.search

    def is_unchanged(self) -> bool:
        """Whether ledger and config were the files that were opened, a moment ago."""
        now = time.monotonic()
        if now < self._look_at:
            return True
        if self._found() != self._identities:
            return False
        self._look_at = now + _LOOK_EVERY_S
        return True

    def is_alike(self) -> bool:
        """Whether nothing but the encoder changed in the config: to that the index sees by itself."""
        found = self._found()
        if found.ledger is None or found.ledger != self._identities.ledger:
            return False
        try:
            config = read_config(self.index.ledger)
        except GenaiError:
            return False
        before = self.index.config
        if replace(config, embedding=before.embedding) != before:
            return False
        self._identities = found
        return True

    def _found(self) -> _Identities:
        return _identities(self._ledger_file, self._config_file)

    def answers_at_once(self, query: IndexQuery) -> bool:
        """Whether an answer takes neither a model nor a pause."""
        rereads = self._search.reranker is not None if query.rerank is None else query.rerank
        embeds = query.vector is None and (query.mode or self._search.mode) != "bm25"
        k = self._search.k if query.k is None else query.k
        if not self._is_quick or rereads or embeds or k > _QUICK_K:
            return False
        return self.is_unchanged() and self.index.answers_at_once()


@dataclass(frozen=True, slots=True)
class _Identities:
    """Device, inode and time of files; None where there is none."""

    ledger: tuple[int, int] | None
    config: tuple[int, int, int] | None


def _identities(ledger_file: str | Path, config_file: str | Path) -> _Identities:
    ledger, config = _stat(ledger_file), _stat(config_file)
    return _Identities(
        ledger=None if ledger is None else (ledger.st_dev, ledger.st_ino),  # its time changes with every sync
        config=None if config is None else (config.st_dev, config.st_ino, config.st_mtime_ns),
    )


def _stat(file: str | Path) -> os.stat_result | None:
    try:
        return os.stat(file)
    except OSError:
        return None


class EngineEncoder:
    """An encoder whose texts are cut here and embedded elsewhere; meets `genai.index.interfaces.Encoder`.

    Args:
        local: the same encoder, whose weights are never loaded.
        embed: asks the engine.
    """

    is_thread_safe = True

    def __init__(self, local: Encoder, embed: EmbedTexts) -> None:
        self._local = local
        self._embed = embed

    @property
    def fingerprint(self) -> str:
        """See `Encoder`."""
        return self._local.fingerprint

    @property
    def dimension(self) -> int:
        """See `Encoder`."""
        return self._local.dimension

    @property
    def max_tokens(self) -> int:
        """See `Encoder`."""
        return self._local.max_tokens

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """(n, dim)"""
        return self._vectors(texts, "document")

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """(n, dim)"""
        return self._vectors(texts, "query")

    def token_offsets(self, text: str) -> list[tuple[int, int]]:
        """See `Encoder`."""
        return self._local.token_offsets(text)

    def _vectors(self, texts: Sequence[str], role: Literal["document", "query"]) -> Vectors:
        import numpy as np

        rows: list[bytes] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            rows += self._embed(list(texts[start : start + _TEXTS_AT_ONCE]), role)
        return np.frombuffer(b"".join(rows), "<f4").reshape(len(texts), self.dimension)


def _search(index: Index, query: IndexQuery) -> IndexAnswer:
    from genai.index.requests import Query

    generation, (results,) = index.search_named(
        [Query(text=query.text, vector=None if query.vector is None else _numbers(query.vector))],
        k=query.k,
        mode=query.mode,
        filter=query.filter,
        tenant=query.tenant,
        columns=query.columns,
        score_threshold=query.score_threshold,
        rerank=query.rerank,
    )
    return IndexAnswer(results=results, generation=generation)


def _numbers(vector: Sequence[float] | bytes) -> Vectors:
    """(dim,)"""
    import numpy as np

    if isinstance(vector, bytes):
        if len(vector) % 4:
            raise UsageError("the vector's bytes are no float32 numbers")
        return np.frombuffer(vector, "<f4")
    with np.errstate(over="ignore"):  # what becomes infinite is refused later
        return np.array(vector, dtype=np.float32)


def _documents(rows: Sequence[Mapping[str, Any]], config: IndexConfig) -> list[Document]:
    return documents_of(((f"rows[{number}]", _SOURCE, row) for number, row in enumerate(rows)), config)


def _told(report: SyncReport, *, documents: int, chunks: int) -> IndexChange:
    generation = report.generation.name if report.generation else ""
    return IndexChange(documents=documents, chunks=chunks, embedded=report.embeddings_new, generation=generation)
