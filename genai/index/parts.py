"""What it takes to change an index, and which settings of the config a change of which means more work."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from genai.config.embedding import EmbeddingConfig
from genai.config.index import IndexConfig
from genai.index.cutting import settings_hash
from genai.index.ledger import Ledger
from genai.index.stopping import Stop

if TYPE_CHECKING:
    from genai.index.interfaces import Encoder, Engine, Source

EncoderOf = Callable[[EmbeddingConfig], "Encoder"]
_NOT_OF_DOCUMENTS = ("table", "documents", "direct", "include", "exclude")
"""Settings of a source that say which documents there are, not what they say."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What it takes to change an index; the caller holds `ledger.alone()`."""

    ledger: Ledger
    encoder: Encoder
    engine: Engine
    config: IndexConfig
    source: Source | None = None
    encoder_of: EncoderOf | None = None
    """Opens the encoders of other generations that are fed."""
    stop: Stop


def document_settings(config: IndexConfig) -> str:
    """Fingerprint of how documents are read and cut: with another one all of them are read and cut again."""
    source = {name: value for name, value in asdict(config.source).items() if name not in _NOT_OF_DOCUMENTS}
    return settings_hash({"chunking": asdict(config.chunking), "source": source})


def source_settings(config: IndexConfig) -> dict[str, Any]:
    """What is noted with the source's state: with others the whole source is looked at again."""
    chosen = {"include": config.source.include, "exclude": config.source.exclude}
    return plain({"documents": document_settings(config), **chosen})


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """As they come back from the ledger."""
    read: dict[str, Any] = json.loads(json.dumps(dict(values)))
    return read
