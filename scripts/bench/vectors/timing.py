"""One query after the other, on the clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Query = TypeVar("Query")
WARM = 20
"""Queries that are asked once before, and not counted."""


def each_query(ask: Callable[[Query], Any], queries: Sequence[Query]) -> tuple[list[Any], dict[str, float]]:
    """All answers, and what a query takes: median wall time, 95th percentile, and CPU time over all threads."""
    for query in queries[:WARM]:
        ask(query)
    answers, times = [], []
    cpu_started = time.process_time()
    for query in queries:
        started = time.perf_counter()
        answers.append(ask(query))
        times.append(time.perf_counter() - started)
    cpu_ms = (time.process_time() - cpu_started) * 1e3 / len(queries)
    ordered = sorted(times)
    p95 = ordered[int(0.95 * (len(ordered) - 1))]
    return answers, {"p50_ms": statistics.median(times) * 1e3, "p95_ms": p95 * 1e3, "cpu_ms": cpu_ms}
