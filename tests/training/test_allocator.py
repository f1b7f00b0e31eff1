"""Freed memory stays in the process: once it has settled, a step faults no page in."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from genai.training.allocator import keep_freed_memory, return_freed_memory
if {keep}:
    assert keep_freed_memory()
def step():
    # More than 32 MiB, which glibc by default always asks the kernel for.
    blocks = [torch.ones(10 << 20) for _ in range(4)]
for _ in range(4):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
def resident():
    return int(open('/proc/self/statm').read().split()[1]) << 12
held = resident()
return_freed_memory()
print(held - resident())
"""


def measure(keep: bool) -> tuple[int, int]:
    """Page faults of a fifth step over 160 MiB, and bytes handed back afterwards."""
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(keep=keep)], capture_output=True, text=True, check=True)
    faults, returned = done.stdout.split()
    return int(faults), int(returned)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
@pytest.mark.integration
def test_pages_are_faulted_in_once() -> None:
    faults, returned = measure(keep=True)
    assert faults < 100
    assert returned > 100 << 20
    # Without it each page of 160 MiB comes anew.
    assert measure(keep=False)[0] > 1000


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from genai.training import allocator

    monkeypatch.setattr(sys, "platform", "darwin")
    assert allocator.keep_freed_memory() is False
    allocator.return_freed_memory()
