"""What retrieval is trained and measured with: passages, pairs of a query and a passage, held-out queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A text that can be found: a document or a chunk of one."""

    key: str
    """Names it; unique in the corpus."""
    text: str
    """What is embedded."""
    document: str
    """The document that it is cut from; itself where it is a whole one. Passages of one document stay on one side."""
    title: str | None = None
    """Of the document, or the heading above a chunk."""
    source: str = ""
    """Where it stands, as `path:line` or a table and a key."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A query and a passage that answers it, or how well it does."""

    query: str
    positive: str
    """Key of the passage."""
    negatives: tuple[str, ...] = ()
    """Keys of passages that do not answer it."""
    score: float | None = None
    """Grade of the pair; None: it simply is one."""
    group: str | None = None
    """Pairs of one group stay on one side."""
    source: str = ""
    """Where it stands, as `path:line`."""
    positive_text: str | None = None
    """What is trained on in place of the passage's own text, which stays what is searched: inverse cloze takes the
    query's sentence out of it. None: the passage as it is."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Of a query that was made: method, model, style, and what it went through; empty where a person wrote it."""


@dataclass(frozen=True, kw_only=True)
class HeldOutQuery:
    """A query that is measured with."""

    query: str
    relevant: Mapping[str, float]
    """Key of each passage that answers it -> its grade, above 0."""
    source: str = ""
    """Where it stands."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """As of a pair."""


@dataclass(frozen=True, kw_only=True)
class NearDuplicate:
    """A training pair that was removed because a held-out one resembles it."""

    train: str
    """Source of the training pair."""
    held_out: str
    """Source of what it resembles."""
    similarity: float
    """Jaccard of character 5-grams; 1 for equal texts."""
    text: str
    """The beginning of the training pair's text that does."""


@dataclass(frozen=True, kw_only=True)
class RetrievalData:
    """All that a job trains and measures with."""

    passages: tuple[Passage, ...]
    """The whole corpus, in a fixed order; each text once."""
    train: tuple[Pair, ...]
    validation: tuple[HeldOutQuery, ...]
    test: tuple[HeldOutQuery, ...]
    near_duplicates: tuple[NearDuplicate, ...] = ()
    """Removed from train."""
    kept_back: frozenset[str] = frozenset()
    """Keys of passages that training leaves alone, also as negatives: of the held-out queries' documents, and what
    resembles one of them."""
    num_bad_rows: int = 0
    """Rows that could not be read."""
    tables: Mapping[str, Any] = field(default_factory=dict)
    """Delta tables that were read: reference -> version and id."""
    fingerprint: str = ""
    """Hash of all of the above that is trained or measured with."""
