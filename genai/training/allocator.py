"""Keep freed memory in the process instead of handing it back to the kernel between two steps.

glibc returns every large block at once, so that each step faults its activations in again, page by page: a fifth of the
CPU time of a training step. A step needs the same memory as the one before; the peak does not grow.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Stop glibc from returning memory, for the rest of the process; call it once before a training on a CPU.

    Returns:
        False where the C library is another one; nothing is changed then.
    """
    libc = _glibc()
    if libc is None:
        return False
    return bool(libc.mallopt(_M_MMAP_MAX, 0)) and bool(libc.mallopt(_M_TRIM_THRESHOLD, -1))


def return_freed_memory() -> None:
    """Hand what is free now back to the kernel, as after a training or a conversion of weights."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "gnu_get_libc_version") else None
