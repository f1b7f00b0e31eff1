"""Memory that is free but still the process's own: C libraries keep it for the next one who asks."""

from __future__ import annotations

import ctypes
import sys


def return_freed_memory() -> None:
    """Hand what is free now back to the kernel, as after a training or a conversion of weights."""
    libc = glibc()
    if libc is not None:
        libc.malloc_trim(0)


def glibc() -> ctypes.CDLL | None:
    """The C library, where it is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "gnu_get_libc_version") else None
