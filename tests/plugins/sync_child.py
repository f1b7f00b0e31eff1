"""A process that syncs an index once, for tests that kill it: `python -m sync_child FOLDER ENGINE VERSION`."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from memory_source import CountingEncoder, FollowingIndex, MemorySource

from genai.config.index import ExactConfig, QdrantEdgeConfig, SyncConfig
from genai.index.interfaces import Vectors

BATCH = 8


class SlowEncoder(CountingEncoder):
    """One that takes its time, so that a kill meets it at work."""

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        time.sleep(0.01)
        return super().embed_documents(texts)


def rows(version: int) -> dict[str, str]:
    """The same for every process."""
    chosen = random.Random(version)
    return {
        f"k{number}": " ".join(f"w{chosen.randrange(50)}" for _ in range(chosen.randrange(1, 60)))
        for number in range(60)
        if chosen.random() < 0.9
    }


def open_index(folder: Path, engine: str, version: int) -> FollowingIndex:
    """With the rows of that version."""
    config = QdrantEdgeConfig() if engine == "qdrant_edge" else ExactConfig()
    index = FollowingIndex(folder, MemorySource(feeds=False), engine=config, sync=SyncConfig(batch_size=BATCH))
    index.encoder = SlowEncoder(log=folder / "texts")
    for key, text in rows(version).items():
        index.source.put(key, text)
    index.source.uri = f"memory:{version}"
    return index


if __name__ == "__main__":
    syncing = open_index(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    print("ready", flush=True)
    syncing.sync(allow_mass_delete=True)
    print("done", flush=True)
