"""Items of an iterator, made by a thread in the background before they are asked for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """What `items` gives, in order, made up to `depth` items ahead.

    Args:
        items: an endless or ending iterator; an error that it raises is raised by `take` in its place.
        depth: finished items to hold.
        name: of the thread.
    """

    def __init__(self, items: Iterator[T], *, depth: int, name: str) -> None:
        self._items = items
        self._depth = depth
        self._ready: deque[T | BaseException] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def take(self) -> T:
        """The next item.

        Raises:
            StopIteration: there is none left.
            Exception: what making it raised; every later call raises it again.
            RuntimeError: it was stopped, perhaps by another thread while this one waited.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._stopped)
            if not self._ready:
                raise RuntimeError("reading ahead was stopped")
            item = self._ready[0]
            if isinstance(item, BaseException):
                raise item
            self._ready.popleft()
            self._changed.notify_all()
            return item

    def stop(self) -> None:
        """Make no further item; the one that is being made is finished in the background."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def join(self) -> None:
        """Wait for the thread to end, after `stop`."""
        self._thread.join()

    def _work(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
            self._put(StopIteration())
        except BaseException as error:
            self._put(error)

    def _put(self, item: T | BaseException) -> bool:
        """Whether more is wanted."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._ready) < self._depth or self._stopped)
            if not self._stopped:
                self._ready.append(item)
                self._changed.notify_all()
            return not self._stopped
