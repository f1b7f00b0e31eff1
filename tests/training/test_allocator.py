"""Freed memory stays in the process: once it has settled, a step faults no page in."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from genai.models.freed_memory import return_freed_memory
from genai.training.allocator import keep_freed_memory
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
    from genai.models.freed_memory import return_freed_memory
    from genai.training import allocator

    monkeypatch.setattr(sys, "platform", "darwin")
    assert allocator.keep_freed_memory() is False
    return_freed_memory()


KERNELS = """
import torch
from genai.training.allocator import keep_few_kernels
if {few}:
    keep_few_kernels()
def resident():
    return int(open('/proc/self/statm').read().split()[1]) << 12
torch.set_num_threads(1)
weight = torch.randn(64, 64, dtype=torch.bfloat16)
def multiply(lengths):
    for length in lengths:
        torch.randn(length, 64, dtype=torch.bfloat16) @ weight
multiply(range(1, 65))
before = resident()
multiply(range(65, 1000))
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.integration
def test_products_of_ever_new_shapes_leave_little_behind() -> None:
    # Another test of this process may have called it already.
    environment = {name: value for name, value in os.environ.items() if not name.endswith("CACHE_CAPACITY")}
    grown = []
    for few in (True, False):
        command = [sys.executable, "-c", KERNELS.format(few=few)]
        done = subprocess.run(command, capture_output=True, check=True, env=environment)
        grown.append(int(done.stdout))
    assert grown[0] < grown[1] / 2
