"""What a process has taken so far, those that it ran included."""

from __future__ import annotations

import resource
import time


def cpu_s() -> float:
    """CPU seconds, over all threads."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def peak_rss_mib() -> float:
    """Resident memory, of the process that had most of it."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
