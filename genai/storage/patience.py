"""Try again while a server does not answer: the same for every kind of bucket."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from genai.errors import GenaiError
from genai.log import get_logger

T = TypeVar("T")

PATIENCE_S = 60.0
"""How long a server that is there is waited for while it does not answer."""
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 15.0
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What an exception of a client library means."""

    cause: Exception
    transient: bool
    """The same request may go well later: nobody answered, the answer broke off, or the server is busy."""
    unreachable: bool
    """There was no connection at all."""
    explain: Callable[[], GenaiError]
    """Makes the error to show; it may ask the server once more, for something to suggest."""


class Call(Protocol):
    """Carries out a request, patiently, and explains what went wrong."""

    def __call__(self, operation: Callable[[], T]) -> T:
        """The result of `operation`."""


class Patience:
    """Carries out the requests of one store.

    Args:
        url: the store's, for the log.
        understand: says what an exception means, met while asking for a key; None when it is no failure of a request:
            then it is raised as it is.
    """

    def __init__(self, url: str, understand: Callable[[Exception, str | None], Trouble | None]) -> None:
        self._url = url
        self._understand = understand
        self._answered = False

    def for_key(self, key: str) -> Call:
        """`call`, for requests that all ask for one object."""

        def call(operation: Callable[[], T]) -> T:
            return self.call(key, operation)

        return call

    def call(self, key: str | None, operation: Callable[[], T]) -> T:
        """The result of `operation`, tried again for `PATIENCE_S`, unless nobody has ever listened there.

        Args:
            key: the object that is asked for, if it is one.
            operation: one or more requests that can be repeated.

        Raises:
            GenaiError: it failed for good.
        """
        deadline, pause_s = time.monotonic() + PATIENCE_S, _FIRST_PAUSE_S
        while True:
            try:
                result = operation()
            except Exception as error:
                trouble = self._understand(error, key)
                if trouble is None:
                    raise
                hopeless = not trouble.transient or (trouble.unreachable and not self._answered)
                if hopeless or time.monotonic() + pause_s > deadline:
                    raise trouble.explain() from error
                _log.warning("%s does not answer (%s); trying again in %g s", self._url, trouble.cause, pause_s)
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                self._answered = True
                return result
