"""Encoders and rerankers in a thread of their own, which reads the texts of several requests together.

A batch takes one text of each client in turn, so that a request with a thousand texts holds up nobody; within a client
the first to come is the first to be read. There is no waiting for more to come: a batch is what is there when the model
is free.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Literal, Protocol, TypeVar

from genai.errors import GenaiError
from genai.inference.interfaces import RefusedError
from genai.inference.stats import BatchStats
from genai.log import get_logger
from genai.models.generation import EmbedRequest, EmbedResult, Fault, RerankRequest, RerankResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_log = get_logger(__name__)

Role = Literal["document", "query"]
Request = TypeVar("Request", bound=EmbedRequest | RerankRequest)
Result = TypeVar("Result", bound=EmbedResult | RerankResult)
Piece = TypeVar("Piece", bound=Sized)
"""One text (with its query, for a reranker) as tokens."""
PairPiece = TypeVar("PairPiece", bound=Sized)
Output = TypeVar("Output")
"""What the model says of one."""


# --- what is needed of models -----------------------------------------------------------------------------------------


class Encoder(Protocol):
    """From texts to vectors, in two steps."""

    @property
    def dimension(self) -> int:
        """Numbers a vector."""

    @property
    def max_length(self) -> int:
        """Tokens of the longest text, prompt and special tokens among them."""

    @property
    def normalize(self) -> bool:
        """Whether vectors have length 1."""

    def tokens(self, texts: Sequence[str], role: Role, *, truncate: bool = True) -> list[list[int]]:
        """What the model reads of each text, prompt and special tokens among it; cut at `max_length` if asked."""

    def embed_tokens(self, sequences: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """(n, dimension)"""


class Reranker(Protocol[PairPiece]):
    """From a query and texts to scores, in two steps."""

    def tokens(self, query: str, texts: Sequence[str]) -> list[PairPiece]:
        """What the model reads of the query and each text; its length is the number of tokens."""

    def score_tokens(self, pairs: Sequence[PairPiece]) -> list[float]:
        """Between 0 and 1, one number a pair."""


# --- requests under way -----------------------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class _Job(Generic[Request, Output]):
    """A request under way."""

    request: Request
    deadline: float | None
    """time.monotonic()"""
    outputs: list[Output | None]
    """One a text; None until it is read."""
    num_taken: int = 0
    """Texts that went into batches."""
    num_read: int = 0
    num_tokens: int = 0
    is_over: bool = False
    """It was answered, or nobody waits for it any more."""


@dataclass(slots=True)
class _Batch(Generic[Request, Piece, Output]):
    """Texts that are read together."""

    jobs: list[_Job[Request, Output]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    """Of each text in its request."""
    pieces: list[Piece] = field(default_factory=list)
    num_tokens: int = 0

    def add(self, job: _Job[Request, Output], place: int, piece: Piece) -> None:
        self.jobs.append(job)
        self.places.append(place)
        self.pieces.append(piece)
        self.num_tokens += len(piece)

    def by_job(self) -> list[_Batch[Request, Piece, Output]]:
        """The same, a batch for each request."""
        batches: dict[int, _Batch[Request, Piece, Output]] = {}
        for job, place, piece in zip(self.jobs, self.places, self.pieces, strict=True):
            batches.setdefault(id(job), _Batch()).add(job, place, piece)
        return list(batches.values())


class _Turns(Generic[Request, Output]):
    """Requests of which texts are still to be taken; clients take turns, text by text."""

    def __init__(self) -> None:
        self._clients: dict[str, deque[_Job[Request, Output]]] = {}

    def add(self, job: _Job[Request, Output]) -> None:
        self._clients.setdefault(job.request.client, deque()).append(job)

    def next(self) -> tuple[_Job[Request, Output], int] | None:
        """Whose turn it is, and the place of the text."""
        while self._clients:
            client = next(iter(self._clients))
            jobs = self._clients.pop(client)
            while jobs and jobs[0].is_over:
                jobs.popleft()
            if not jobs:
                continue
            job = jobs[0]
            place, job.num_taken = job.num_taken, job.num_taken + 1
            if job.num_taken == len(job.outputs):
                jobs.popleft()
            if jobs:
                self._clients[client] = jobs  # at the end: all others come before it again
            return job, place
        return None


# --- the worker -------------------------------------------------------------------------------------------------------


class _Reading(ABC, Generic[Request, Piece, Output, Result]):
    """In what encoders and rerankers differ."""

    @abstractmethod
    def check(self, request: Request) -> Fault | None:
        """What is wrong with a request."""

    @abstractmethod
    def piece(self, request: Request, place: int) -> Piece:
        """One of its texts as tokens; raises `RefusedError` for one that the asker must mend."""

    @abstractmethod
    def outputs(self, pieces: Sequence[Piece]) -> Sequence[Output]:
        """What the model says of each."""

    @abstractmethod
    def success(self, request: Request, outputs: Sequence[Output], num_tokens: int) -> Result:
        """The answer."""

    @abstractmethod
    def failure(self, request: Request, fault: Fault) -> Result:
        """No answer."""


class BatchWorker(Generic[Request, Piece, Output, Result]):
    """A thread that reads the texts of requests; see `EncoderWorker` and `RerankerWorker`.

    Args:
        name: of the endpoint.
        reading: what it does with them.
        max_batch_tokens: texts are read together up to so many; a longer text goes alone.
        max_waiting: requests under way, beyond which more are refused.
        emit: takes results, from the worker's thread or, for what is refused at once, the caller's; must not raise.
    """

    def __init__(
        self,
        name: str,
        reading: _Reading[Request, Piece, Output, Result],
        *,
        max_batch_tokens: int,
        max_waiting: int,
        emit: Callable[[Result], None],
    ) -> None:
        self.name = name
        self._reading = reading
        self._max_batch_tokens = max_batch_tokens
        self._max_waiting = max_waiting
        self._emit = emit
        self._changed = threading.Condition()
        self._turns: _Turns[Request, Output] = _Turns()
        self._open: dict[str, _Job[Request, Output]] = {}
        self._num_delivering = 0
        self._left: tuple[_Job[Request, Output], int, Piece] | None = None
        self._refuses: Literal["", "draining", "closed"] = ""
        self._batches = self._texts = self._tokens = self._crashes = 0
        self._thread = threading.Thread(target=self._run, name=f"batches-{name}", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> None:
        """Begin a request; its result comes through `emit`. Any thread may call this."""
        fault = self._reading.check(request)
        with self._changed:
            fault = fault or self._refusal(request)
            if fault is None:
                deadline = None if request.timeout_s is None else time.monotonic() + request.timeout_s
                job: _Job[Request, Output] = _Job(request, deadline, [None] * len(request.texts))
                self._open[request.id] = job
                self._turns.add(job)
                self._changed.notify_all()
        if fault is not None:
            self._emit(self._reading.failure(request, fault))

    def abort(self, request_id: str) -> None:
        """Give a request up; it has no result then. Any thread may call this."""
        with self._changed:
            if (job := self._open.pop(request_id, None)) is not None:
                job.is_over = True
            self._changed.notify_all()

    @property
    def num_open(self) -> int:
        """Requests under way."""
        return len(self._open)

    def stats(self) -> BatchStats:
        """Numbers of this moment."""
        with self._changed:
            waiting = sum(job.num_taken == 0 for job in self._open.values())
            return BatchStats(
                running=len(self._open) - waiting,
                waiting=waiting,
                batches=self._batches,
                texts=self._texts,
                tokens=self._tokens,
                crashes=self._crashes,
            )

    def drain(self, timeout_s: float) -> bool:
        """Take no more requests and wait for those under way; whether all were answered in time."""
        with self._changed:
            self._refuses = self._refuses or "draining"
            return self._changed.wait_for(lambda: not self._open and not self._num_delivering, timeout_s)

    def close(self) -> None:
        """End the thread; what is under way is answered with a fault. Further calls do nothing."""
        with self._changed:
            self._refuses = "closed"
            self._changed.notify_all()
        self._thread.join()

    def _refusal(self, request: Request) -> Fault | None:
        if self._refuses:
            return self._unloaded()
        if request.id in self._open:
            return Fault(code="invalid", message=f"request {request.id} is under way already")
        if len(self._open) >= self._max_waiting:
            return Fault(code="overloaded", message=f"{len(self._open)} requests wait for {self.name}: try again later")
        return None

    def _unloaded(self) -> Fault:
        return Fault(code="not_loaded", message=f"{self.name} is being unloaded")

    # --- the thread

    def _run(self) -> None:
        while self._wait():
            self._expire()
            batch = self._next_batch()
            if batch.pieces:
                self._read(batch)
        for job in list(self._open.values()):
            self._finish(job, self._reading.failure(job.request, self._unloaded()))

    def _wait(self) -> bool:
        """Sleep until there is something to read; False when the worker is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._open or self._refuses == "closed")
            return self._refuses != "closed"

    def _expire(self) -> None:
        now = time.monotonic()
        with self._changed:
            late = [job for job in self._open.values() if job.deadline is not None and job.deadline <= now]
        for job in late:
            fault = Fault(code="timeout", message=f"its time of {job.request.timeout_s:g} s was over")
            self._finish(job, self._reading.failure(job.request, fault))

    def _next_batch(self) -> _Batch[Request, Piece, Output]:
        batch: _Batch[Request, Piece, Output] = _Batch()
        while batch.num_tokens < self._max_batch_tokens and (taken := self._take()) is not None:
            job, place, piece = taken
            if batch.pieces and batch.num_tokens + len(piece) > self._max_batch_tokens:
                self._left = taken
                break
            if not job.is_over:
                batch.add(job, place, piece)
        return batch

    def _take(self) -> tuple[_Job[Request, Output], int, Piece] | None:
        """The text that did not fit last time, or the next one."""
        if (left := self._left) is not None:
            self._left = None
            return left
        while True:
            with self._changed:
                turn = self._turns.next()
            if turn is None:
                return None
            job, place = turn
            try:
                return job, place, self._reading.piece(job.request, place)
            except RefusedError as error:
                fault = Fault(code=error.fault, message=error.message, param=error.param)
                self._finish(job, self._reading.failure(job.request, fault))
            except Exception as error:
                self._fail(job, error)

    def _read(self, batch: _Batch[Request, Piece, Output]) -> None:
        """Let the model read; where that fails, request by request, so that only the one to blame fails."""
        self._batches += 1
        try:
            outputs = self._reading.outputs(batch.pieces)
        except Exception as error:
            parts = batch.by_job()
            if len(parts) == 1:
                self._fail(batch.jobs[0], error)
                return
            for part in parts:
                self._read(part)
            return
        self._texts += len(batch.pieces)
        self._tokens += batch.num_tokens
        self._deliver(batch, outputs)

    def _deliver(self, batch: _Batch[Request, Piece, Output], outputs: Sequence[Output]) -> None:
        for job, place, piece, output in zip(batch.jobs, batch.places, batch.pieces, outputs, strict=True):
            job.outputs[place] = output
            job.num_read += 1
            job.num_tokens += len(piece)
            if job.num_read == len(job.outputs):
                read = [output for output in job.outputs if output is not None]
                self._finish(job, self._reading.success(job.request, read, job.num_tokens))

    def _fail(self, job: _Job[Request, Output], error: Exception) -> None:
        self._crashes += 1
        _log.error("%s could not read request %s", self.name, job.request.id, exc_info=error)
        reason = error.message if isinstance(error, GenaiError) else f"{self.name} failed; the server's log says why"
        self._finish(job, self._reading.failure(job.request, Fault(code="failed", message=reason)))

    def _finish(self, job: _Job[Request, Output], result: Result) -> None:
        with self._changed:
            if job.is_over:
                return
            job.is_over = True
            del self._open[job.request.id]
            self._num_delivering += 1
        self._emit(result)
        with self._changed:
            self._num_delivering -= 1
            self._changed.notify_all()


# --- encoders ---------------------------------------------------------------------------------------------------------


class EncoderWorker(BatchWorker[EmbedRequest, "list[int]", "NDArray[np.float32]", EmbedResult]):
    """Embeds texts; see `BatchWorker`.

    Args:
        name: of the endpoint.
        encoder: used by the worker's thread alone, but for `dimension`.
        max_batch_tokens, max_waiting, emit: see `BatchWorker`.
    """

    def __init__(
        self,
        name: str,
        encoder: Encoder,
        *,
        max_batch_tokens: int,
        max_waiting: int,
        emit: Callable[[EmbedResult], None],
    ) -> None:
        reading = _Embedding(encoder)
        super().__init__(name, reading, max_batch_tokens=max_batch_tokens, max_waiting=max_waiting, emit=emit)


class _Embedding(_Reading[EmbedRequest, "list[int]", "NDArray[np.float32]", EmbedResult]):
    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def check(self, request: EmbedRequest) -> Fault | None:
        most = self._encoder.dimension
        if not request.texts:
            return Fault(code="invalid", message="there is no text to embed", param="input")
        if request.dimensions is not None and not 1 <= request.dimensions <= most:
            message = f"dimensions is {request.dimensions}, but vectors of {request.model} have 1 to {most} numbers"
            return Fault(code="invalid", message=message, param="dimensions")
        return None

    def piece(self, request: EmbedRequest, place: int) -> list[int]:
        (ids,) = self._encoder.tokens([request.texts[place]], request.role, truncate=request.truncate)
        most = self._encoder.max_length
        if len(ids) > most and not request.truncate:
            message = f"{request.model} reads at most {most} tokens, and input[{place}] has {len(ids)}"
            raise RefusedError(f"{message}: shorten it, or ask for truncate", fault="too_long", param=f"input[{place}]")
        return ids

    def outputs(self, pieces: Sequence[list[int]]) -> Sequence[NDArray[np.float32]]:
        return list(self._encoder.embed_tokens(pieces))

    def success(self, request: EmbedRequest, outputs: Sequence[NDArray[np.float32]], num_tokens: int) -> EmbedResult:
        vectors = [self._cut(vector, request.dimensions) for vector in outputs]
        return EmbedResult(id=request.id, vectors=vectors, num_tokens=num_tokens)

    def failure(self, request: EmbedRequest, fault: Fault) -> EmbedResult:
        return EmbedResult(id=request.id, fault=fault)

    def _cut(self, vector: NDArray[np.float32], dimensions: int | None) -> bytes:
        """The first numbers, which are a shorter embedding of the same text, but not one of length 1 any more."""
        if dimensions is not None and dimensions < len(vector):
            vector = vector[:dimensions]
            length = float((vector @ vector) ** 0.5)
            if self._encoder.normalize and length > 0:
                vector = vector / length
        return vector.astype("<f4").tobytes()


# --- rerankers --------------------------------------------------------------------------------------------------------


class RerankerWorker(BatchWorker[RerankRequest, PairPiece, float, RerankResult]):
    """Scores texts for a query; see `BatchWorker`.

    Args:
        name: of the endpoint.
        reranker: used by the worker's thread alone.
        max_batch_tokens, max_waiting, emit: see `BatchWorker`.
    """

    def __init__(
        self,
        name: str,
        reranker: Reranker[PairPiece],
        *,
        max_batch_tokens: int,
        max_waiting: int,
        emit: Callable[[RerankResult], None],
    ) -> None:
        reading = _Scoring(reranker)
        super().__init__(name, reading, max_batch_tokens=max_batch_tokens, max_waiting=max_waiting, emit=emit)


class _Scoring(_Reading[RerankRequest, PairPiece, float, RerankResult]):
    def __init__(self, reranker: Reranker[PairPiece]) -> None:
        self._reranker = reranker

    def check(self, request: RerankRequest) -> Fault | None:
        if not request.texts:
            return Fault(code="invalid", message="there is no text to score", param="documents")
        return None

    def piece(self, request: RerankRequest, place: int) -> PairPiece:
        return self._reranker.tokens(request.query, [request.texts[place]])[0]

    def outputs(self, pieces: Sequence[PairPiece]) -> Sequence[float]:
        return self._reranker.score_tokens(pieces)

    def success(self, request: RerankRequest, outputs: Sequence[float], num_tokens: int) -> RerankResult:
        return RerankResult(id=request.id, scores=list(outputs), num_tokens=num_tokens)

    def failure(self, request: RerankRequest, fault: Fault) -> RerankResult:
        return RerankResult(id=request.id, fault=fault)
