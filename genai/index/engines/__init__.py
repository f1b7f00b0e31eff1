"""What stores and searches the points of an index, one engine a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from genai.registry import Registry

if TYPE_CHECKING:
    from genai.config.index import EngineConfig
    from genai.index.interfaces import Engine

ENGINES: Registry[Callable[..., Engine]] = Registry(
    "engine",
    {
        "exact": "genai.index.engines.exact:ExactEngine",
        "qdrant_edge": "genai.index.engines.qdrant_edge:QdrantEdgeEngine",
        "qdrant": "genai.index.engines.qdrant:QdrantEngine",
        "lancedb": "genai.index.engines.lancedb:LanceDbEngine",
    },
    group="genai.engines",
)
"""Engines that a job file can name; a plugin's entry point is called like these: `(config, folder, index=name)`."""


def open_engine(config: EngineConfig, folder: Path, *, index: str) -> Engine:
    """The engine of an index; nothing is read, written or asked yet.

    Args:
        config: which engine, with its settings.
        folder: where it may put files, `<indexes_dir>/<index>/engine`; it is made where it is missing.
        index: name of the index.

    Raises:
        UsageError: there is no engine of that name.
        MissingExtraError: its package is not installed.
    """
    return ENGINES.get(config.name)(config, folder, index=index)
