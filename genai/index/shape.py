"""What points depend on beside the encoder: columns, tenants, how words are counted, the engine and its graph."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from genai.config.index import ColumnType, IndexConfig, IndexSourceConfig

if TYPE_CHECKING:
    from genai.index.interfaces import Source

_OF_SEARCH = ("ef", "exact_below", "api_key", "timeout_s")
"""Settings of engines that only matter to queries."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What all points of a generation have in common; another one means that points are made anew from the ledger."""

    columns: Mapping[str, ColumnType]
    has_tenants: bool
    fingerprint: str


def shape_of(config: IndexConfig, columns: Mapping[str, ColumnType]) -> Shape:
    """The shape that a config asks for.

    Args:
        config: of the index.
        columns: of its source, see `columns_of`.
    """
    engine = asdict(config.engine)
    for section in (engine, engine.get("hnsw", {})):
        for name in _OF_SEARCH:
            section.pop(name, None)
    has_tenants = config.source.tenant is not None
    values = [dict(columns), has_tenants, asdict(config.bm25), engine]
    text = json.dumps(values, sort_keys=True)
    return Shape(
        columns=dict(columns),
        has_tenants=has_tenants,
        fingerprint=hashlib.sha256(text.encode()).hexdigest()[:16],
    )


def columns_of(config: IndexSourceConfig, source: Source | None) -> Mapping[str, ColumnType]:
    """The metadata columns with their types; of a direct index those that the config declares."""
    if source is not None:
        return source.columns
    declared = config.metadata
    return declared if isinstance(declared, dict) else dict.fromkeys(declared, "keyword")
