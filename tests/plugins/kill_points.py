"""Where a process is killed: Python that runs in it first."""

from __future__ import annotations

# Audit events name every file that Python opens, renames or removes: they reach a point without changing the product.
AT_EVENT = """
import os, signal, sys
seen = 0
def watch(event, arguments):
    global seen
    if event == {event!r} and {part!r} in " ".join(map(str, arguments)):
        seen += 1
        if seen == {number}:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
"""
"""With event, part and number: at the so-many-th audit event of that name that has the part among its arguments."""
