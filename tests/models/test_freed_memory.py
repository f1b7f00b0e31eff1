"""What is free goes back to the kernel, where the C library can do it."""

import sys
from pathlib import Path

import pytest
import torch

from genai.models.freed_memory import return_freed_memory


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) << 12


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_small_blocks_go_back() -> None:
    # Each is below what glibc asks the kernel for; every second one is kept, so that the heap cannot simply shrink.
    blocks = [torch.ones(1 << 14) for _ in range(2000)]
    kept = blocks[::2]
    del blocks
    held = resident_bytes()
    return_freed_memory()
    assert held - resident_bytes() > 30 << 20
    assert len(kept) == 1000


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    return_freed_memory()
