"""Tables as sources: which kind a reference means."""

from __future__ import annotations

from genai.config.index import IndexSourceConfig
from genai.data.tables import SCHEME
from genai.index.interfaces import Source
from genai.index.sources.delta import DeltaSource
from genai.index.sources.files import FileSource


def open_table_source(config: IndexSourceConfig) -> Source:
    """The source of `source.table`. Nothing is read yet.

    Args:
        config: `source`, with table, primary_key and text.

    Raises:
        UsageError: a Delta table is named in a wrong way.
    """
    assert config.table is not None
    return DeltaSource(config) if config.table.startswith(SCHEME) else FileSource(config)
