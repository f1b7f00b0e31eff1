"""Keep freed memory in the process instead of handing it back to the kernel between two steps.

glibc returns every large block at once, so that each step faults its activations in again, page by page: a fifth of the
CPU time of a training step. A step needs the same memory as the one before; the peak does not grow.

What would grow are the caches of compiled kernels in oneDNN and in torch's layer above it, 1024 each by default, one
for each shape of a product: documents of ever new lengths fill them with code that is hardly used again, more than half
a gigabyte of it.
"""

from __future__ import annotations

import os

from genai.models.freed_memory import glibc

_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
NUM_KERNELS = 64
"""More than the shapes of one pass: within it, every layer finds the kernels of the one before."""


def keep_freed_memory() -> bool:
    """Stop glibc from returning memory, for the rest of the process; call it once before a training on a CPU.

    Returns:
        False where the C library is another one; nothing is changed then.
    """
    libc = glibc()
    if libc is None:
        return False
    return bool(libc.mallopt(_M_MMAP_MAX, 0)) and bool(libc.mallopt(_M_TRIM_THRESHOLD, -1))


def keep_few_kernels(count: int = NUM_KERNELS) -> None:
    """Make oneDNN and torch keep few compiled kernels; call it before the first product. What the environment says
    holds.

    Args:
        count: how many; a job whose products have many different shapes needs more.
    """
    for name in _KERNEL_CACHES:
        os.environ.setdefault(name, str(count))
