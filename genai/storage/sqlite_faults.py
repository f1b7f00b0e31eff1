"""What SQLite says, as one line that says what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genai.errors import DataError, GenaiError
from genai.storage.atomic import free_bytes

BUSY_S = 60.0
"""How long another process that writes is waited for: the `timeout` of connections."""


@contextmanager
def explain_sqlite(path: Path, *, what: str, fix: str) -> Iterator[None]:
    """Turn the errors of SQLite into ours.

    Args:
        path: the file.
        what: it is ("the file of answers"), for the error when it is damaged.
        fix: what to do then.

    Raises:
        DataError: it is damaged, or no such file.
        GenaiError: the disk is full, the file cannot be opened, or another process kept writing.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        said = str(error)
        if "full" in said or "disk I/O" in said:
            message = f"cannot write {path}: {said} ({free_bytes(path)} bytes free)"
            raise GenaiError(message, fix="make room on that disk, then start again: nothing was lost") from error
        if "locked" in said:
            message = f"another process kept writing {path} for {BUSY_S:g} s"
            raise GenaiError(message, fix="wait until it is done") from error
        if "unable to open" in said or "readonly" in said:
            raise GenaiError(f"{path} cannot be opened: {said}", fix="see who owns it") from error
        raise DataError(f"{what} is damaged, or another file: {said}", where=str(path), fix=fix) from error
