"""What other threads tell an engine's thread, and where it waits for it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from genai.inference.interfaces import Constraint
from genai.models.generation import Fault, GenerationRequest


@dataclass(frozen=True, slots=True)
class Submit:
    """Answer this."""

    request: GenerationRequest
    arrival: float
    """time.monotonic()"""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Say that this request cannot be carried out."""

    request: GenerationRequest
    fault: Fault


@dataclass(frozen=True, slots=True)
class Abort:
    """Nobody waits for these answers any more."""

    ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Compiled:
    """The grammar of a request was made sense of, or could not be."""

    id: str
    result: Constraint | Fault


@dataclass(frozen=True, slots=True)
class Call:
    """Do this between two steps, and tell how it went."""

    function: Callable[[], Any]
    done: Future[Any]


Command = Submit | Refuse | Abort | Compiled | Call


class Mailbox:
    """Commands in the order in which they came; any thread puts them in, one takes them out.

    The lock is only taken to put something in and to fall asleep: looking whether there is something costs nothing.
    """

    def __init__(self) -> None:
        self._commands: deque[Command] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, command: Command) -> bool:
        """Hand over a command; False when nobody takes any more."""
        with self._changed:
            if self._closed:
                return False
            self._commands.append(command)
            self._changed.notify()
            return True

    def take(self) -> Command | None:
        """The next command, if there is one."""
        return self._commands.popleft() if self._commands else None

    def wait(self, timeout_s: float | None) -> None:
        """Sleep until there is a command, the mailbox is closed, or the time is over."""
        with self._changed:
            if not self._commands and not self._closed:
                self._changed.wait(timeout_s)

    def close(self) -> None:
        """Take nothing any more; what is in it stays."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    @property
    def is_closed(self) -> bool:
        return self._closed
