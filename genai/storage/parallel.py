"""One operation on many objects, by a few threads: most of the time goes into waiting for a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from genai.log import progress

T = TypeVar("T")

THREADS = 4
"""Objects at the same time; and parts of one large object at the same time."""


def for_each(operation: Callable[[T], None], items: Sequence[T], *, description: str, size: Callable[[T], int]) -> None:
    """Carry out `operation` on all `items`; the first error stops those that have not begun, and is raised.

    Args:
        operation: safe to call from several threads.
        items: what to do.
        description: for the progress bar.
        size: bytes of an item, the unit of the progress bar.
    """
    done_bytes = 0
    pool = ThreadPoolExecutor(THREADS)
    with progress(description, sum(size(item) for item in items) / 1e6) as task:
        try:
            futures = {pool.submit(operation, item): item for item in items}
            for future in as_completed(futures):
                future.result()
                done_bytes += size(futures[future])
                task.update(done_bytes / 1e6, unit="MB")
        finally:
            pool.shutdown(cancel_futures=True)
