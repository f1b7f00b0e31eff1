"""Parts in several processes: each gets parts as it is free, and none outlives the process that started it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from genai.data.convert.parts import PartResult, Work
from genai.data.convert.pieces import Part
from genai.errors import CredentialsError, DataError, GenaiError, Problem

_LOOKS_EVERY_S = 0.5
_ERRORS: dict[str, type[GenaiError]] = {"credentials": CredentialsError}
Progress = Callable[[int], None]
"""Told how many characters were converted since the last call."""


@dataclass(frozen=True, kw_only=True)
class _Failed:
    """A `GenaiError` on its way from a worker; the error itself cannot be sent."""

    problem: Problem
    code: str


class _StoppedByParent(Exception):
    """The parent gave up; nobody waits for this part."""


def convert_parts(work: Work, parts: Sequence[Part], *, num_workers: int, progress: Progress) -> Iterator[PartResult]:
    """The results of parts, in the order in which they are ready.

    Args:
        work: what to do with each.
        parts: which.
        num_workers: how many processes; with one, or one part, it is done in this process.
        progress: told how it goes on.

    Raises:
        GenaiError: a part cannot be converted, or a worker was killed.
    """
    if num_workers == 1 or len(parts) <= 1:
        for part in parts:
            yield work.convert(part, progress)
        return
    context = multiprocessing.get_context("spawn")
    counter, stop = context.Value("q", 0), context.Event()
    pool = ProcessPoolExecutor(
        min(num_workers, len(parts)),
        mp_context=context,
        initializer=_begin_worker,
        initargs=(work, counter, stop, os.getpid()),
    )
    try:
        yield from _results([pool.submit(_convert_in_worker, part) for part in parts], counter, progress)
    except BrokenProcessPool as error:
        fix = "give it fewer --workers or more memory; the same command goes on"
        raise GenaiError("a worker process was killed, maybe for its memory", fix=fix) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _results(futures: Sequence[Future[PartResult | _Failed]], counter: Any, progress: Progress) -> Iterator[PartResult]:
    waiting, seen = set(futures), 0
    while waiting:
        done, waiting = wait(waiting, timeout=_LOOKS_EVERY_S, return_when=FIRST_COMPLETED)
        progress(counter.value - seen)
        seen = counter.value
        for future in done:
            result = future.result()
            if isinstance(result, _Failed):
                found = result.problem
                raise _ERRORS.get(result.code, DataError)(found.message, where=found.where, fix=found.fix)
            yield result


_worker: tuple[Work, Callable[[int], None]] | None = None


def _begin_worker(work: Work, counter: Any, stop: Any, parent: int) -> None:
    """Set up a worker process: one thread for the tokenizer, and an end when the parent ends."""
    global _worker
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def report(num_chars: int) -> None:
        if stop.is_set():
            raise _StoppedByParent
        with counter.get_lock():
            counter.value += num_chars

    _worker = work, report
    threading.Thread(target=_end_with, args=(parent,), name="parent-watch", daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: a kill -9 leaves no time to say so."""
    while os.getppid() == parent:
        time.sleep(_LOOKS_EVERY_S)
    os._exit(1)


def _convert_in_worker(part: Part) -> PartResult | _Failed:
    assert _worker is not None
    work, report = _worker
    try:
        return work.convert(part, report)
    except GenaiError as error:
        return _Failed(problem=error.problems[0], code=error.code)
