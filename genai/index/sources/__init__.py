"""What an index follows: tables and folders of documents, one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genai.config.index import IndexSourceConfig

if TYPE_CHECKING:
    from genai.index.interfaces import Source


def open_source(config: IndexSourceConfig) -> Source | None:
    """The source that a config names; None for an index whose rows come by the API."""
    if config.table is not None:
        from genai.index.sources.table import open_table_source

        return open_table_source(config)
    if config.documents is not None:
        from genai.index.sources.documents import open_document_source

        return open_document_source(config)
    return None
