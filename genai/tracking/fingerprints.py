"""sha256 of files and folders, read in pieces: what an input was, so that a later run can tell whether it still is."""

from __future__ import annotations

import hashlib
from pathlib import Path

from genai.errors import DataError

_PIECE_BYTES = 1 << 20


def file_fingerprint(path: Path) -> str:
    """sha256 of the file's bytes, in hex."""
    digest = hashlib.sha256()
    buffer = bytearray(_PIECE_BYTES)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(view):
            digest.update(view[:count])
    return digest.hexdigest()


def folder_fingerprint(path: Path) -> str:
    """sha256, in hex, over the names (relative, '/'-separated) and the hashes of all files below `path`.

    Links to files are followed. Two folders have the same fingerprint when they hold the same files by the same names.
    """
    digest = hashlib.sha256()
    for file in sorted(found for found in path.rglob("*") if found.is_file()):
        name = file.relative_to(path).as_posix()
        digest.update(f"{len(name.encode())}:{name}={file_fingerprint(file)}\n".encode())
    return digest.hexdigest()


def fingerprint(path: Path) -> str:
    """`file_fingerprint` or `folder_fingerprint`, whichever fits.

    Raises:
        DataError: nothing lies at `path`.
    """
    if path.is_dir():
        return folder_fingerprint(path)
    if path.is_file():
        return file_fingerprint(path)
    raise DataError("there is no such file or folder", where=str(path))
