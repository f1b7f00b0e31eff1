"""Grammars are tried in a process of their own first: one that takes for ever, or all memory, or the whole stack (a
chain of a few thousand rules is enough) ends that process, and never the engine.

`python -m genai.inference.grammar_trials` is that process: a line of JSON in, a line out.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import threading
import time
import weakref
from typing import Any, cast

from genai.inference.grammars import find_problem
from genai.inference.interfaces import RefusedError
from genai.models.generation import Grammar

_STACK_BYTES = 2 << 20
"""Of the thread that tries a grammar: much less than any thread of the engine has."""
_MEMORY_BYTES = 2 << 30
"""Address space of the process."""
_START_S = 30.0
"""For the process to begin; this does not count against a grammar."""
_PARAM = "response_format"


class TooComplexError(RefusedError):
    """A grammar that takes too much; how much that is depends on the machine and what else it does."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the grammar is too complex: {why}", param=_PARAM)


class Trials:
    """Processes that try grammars, started when they are needed first.

    Args:
        num_processes: so many grammars are tried at once; further ones wait.
    """

    def __init__(self, num_processes: int = 2) -> None:
        self._free = threading.BoundedSemaphore(num_processes)
        self._idle: list[_Trying] = []
        self._idle_lock = threading.Lock()
        self._finalizer = weakref.finalize(self, _end_all, self._idle)

    def check(self, grammar: Grammar, *, timeout_s: float) -> None:
        """See that a grammar can be compiled, and soon.

        Args:
            grammar: as it came.
            timeout_s: to wait for a process, and again to try it: whoever had to wait is not told that his grammar is
                to blame.

        Raises:
            RefusedError: says what is wrong with it; or overloaded, as too many others are tried.
            TooComplexError: it takes too long or too much memory.
        """
        if not self._free.acquire(timeout=timeout_s):
            raise RefusedError("too many grammars are compiled at the moment", fault="overloaded", param=_PARAM)
        try:
            problem = self._try(grammar, timeout_s)
        finally:
            self._free.release()
        if problem is not None:
            raise RefusedError(problem, param=_PARAM)

    def close(self) -> None:
        """End the processes."""
        self._finalizer()

    def _try(self, grammar: Grammar, timeout_s: float) -> str | None:
        trying = self._take()
        try:
            answer = trying.ask(grammar, timeout_s)
        except TimeoutError as error:
            trying.end()
            raise TooComplexError(f"it was not compiled within {timeout_s:g} s") from error
        except (OSError, EOFError) as error:
            trying.end()
            raise TooComplexError("it is too large or nested too deeply") from error
        if self._finalizer.alive:
            self._idle.append(trying)
        else:
            trying.end()
        return answer

    def _take(self) -> _Trying:
        while True:
            with self._idle_lock:
                trying = self._idle.pop() if self._idle else None
            if trying is None:
                return _Trying()
            if trying.is_alive:
                return trying
            trying.end()


class _Trying:
    """One process that tries grammars."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "genai.inference.grammar_trials"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        try:
            self._read_line(_START_S)
        except (OSError, EOFError) as error:
            self.end()
            message = "the process that compiles grammars does not start"
            raise RefusedError(message, fault="failed", param=_PARAM) from error

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, grammar: Grammar, timeout_s: float) -> str | None:
        """What is wrong with a grammar.

        Raises:
            TimeoutError: it did not answer.
            EOFError: it is no more.
            OSError: the same.
        """
        request = {"kind": grammar.kind, "text": grammar.text, "seconds": timeout_s}
        self._in.write(json.dumps(request).encode() + b"\n")
        self._in.flush()
        return cast("str | None", json.loads(self._read_line(timeout_s)))

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._out.close()
        with contextlib.suppress(BrokenPipeError):
            self._in.close()

    def _read_line(self, timeout_s: float) -> bytes:
        deadline = time.monotonic() + timeout_s
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                piece = os.read(self._out.fileno(), 1 << 16)
                if not piece:
                    raise EOFError
                line += piece
        return line


def _end_all(idle: list[_Trying]) -> None:
    while idle:
        idle.pop().end()


# --- in the process ---------------------------------------------------------------------------------------------------


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(ValueError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.stack_size(_STACK_BYTES)
    _try_in_thread(Grammar(kind="json_object"))
    print("ready", flush=True)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        # Whoever asked kills this process when its time is over, unless it is gone itself: then the alarm does.
        signal.setitimer(signal.ITIMER_REAL, request["seconds"] + 1)
        problem = _try_in_thread(Grammar(kind=request["kind"], text=request["text"]))
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(problem), flush=True)


def _try_in_thread(grammar: Grammar) -> str | None:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(find_problem(grammar)))
    thread.start()
    thread.join()
    if not answers:
        sys.exit("the grammar could not be tried")
    return cast("str | None", answers[0])


if __name__ == "__main__":
    _main()
