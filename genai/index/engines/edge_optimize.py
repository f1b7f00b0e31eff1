"""Builds the graph of a shard in a process of its own: `python -m genai.index.engines.edge_optimize FOLDER`.

`EdgeShard.optimize` keeps Python's lock for as long as it runs, minutes for a million points; signals, progress and
other threads of the process that waits for this one go on meanwhile.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def optimize(folder: str) -> None:
    """Bring the shard in `folder`, which nobody has open, into its best shape, and to the disk."""
    from qdrant_edge import EdgeShard

    shard = EdgeShard.load(folder)
    shard.optimize()
    shard.flush()
    shard.close()


def main(folder: str, parent: int) -> None:
    """Optimise, unless the process that wants it dies before: then this one does too."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == parent:
        optimize(folder)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
