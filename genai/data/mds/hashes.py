"""Hashes of a shard's files by the names that index.json gives them: hashlib's, and xxhash's where it is installed."""

from __future__ import annotations

import hashlib
import importlib
from typing import Any

from genai.data.mds.shard_info import FileInfo
from genai.errors import DataError, MissingExtraError, UsageError
from genai.registry import suggest

_XXHASHES = ("xxh128", "xxh32", "xxh3_128", "xxh3_64", "xxh64")
_KNOWN = (*sorted(name for name in hashlib.algorithms_guaranteed if not name.startswith("shake_")), *_XXHASHES)


def hex_digest(algorithm: str, data: Any) -> str:
    """The hex digest of `data`, any buffer.

    Raises:
        UsageError: no such algorithm.
        MissingExtraError: xxhash is not installed.
    """
    if algorithm not in _KNOWN:
        near = suggest(algorithm, _KNOWN)
        fix = f"did you mean {near!r}?" if near else f"known: {', '.join(_KNOWN)}"
        raise UsageError(f"there is no hash {algorithm!r}", fix=fix)
    if algorithm not in _XXHASHES:
        return hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()
    try:
        xxhash = importlib.import_module("xxhash")
    except ModuleNotFoundError as error:
        raise MissingExtraError("xxhash", extra="streaming", needed_for=f"the hash {algorithm}") from error
    return str(getattr(xxhash, algorithm)(data).hexdigest())


def verify(data: Any, info: FileInfo, algorithm: str, where: str) -> None:
    """Compare the content of a shard's file with what index.json says.

    Args:
        data: any buffer.
        info: the file.
        algorithm: one of those that the shards were written with.
        where: the file's URL, for errors.

    Raises:
        DataError: it is another content, or index.json has no such hash.
    """
    if algorithm not in info.hashes:
        known = ", ".join(sorted(info.hashes)) or "none"
        raise DataError(f"index.json holds no {algorithm} of it", where=where, fix=f"choose one of: {known}")
    if hex_digest(algorithm, data) != info.hashes[algorithm]:
        raise DataError(f"it is damaged: its {algorithm} is not the one in index.json", where=where)
