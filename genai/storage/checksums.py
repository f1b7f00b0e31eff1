"""SHA-256 of what lies on the disk or comes in pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

CHUNK_BYTES = 1 << 20


def sha256_of(path: Path) -> str:
    """The hex SHA-256 of the file `path`."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_chunks(chunks: Iterable[bytes]) -> str:
    """The hex SHA-256 of all `chunks` in a row."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
