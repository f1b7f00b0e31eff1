"""What index.json says about a shard. It may come from anybody, so every value is checked before it is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from genai.data.mds.encodings import parse_encoding
from genai.errors import DataError
from genai.storage.base import check_key

VERSION = 2
FORMAT = "mds"
MAX_SHARD_BYTES = 2**32 - 1
"""Offsets in a shard are uint32."""


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    """One file of a shard."""

    basename: str
    """Path below the folder of index.json, a safe key."""
    size_bytes: int
    hashes: Mapping[str, str] = field(default_factory=dict)
    """Name of the algorithm to hex digest."""

    def to_json(self) -> dict[str, Any]:
        """As index.json holds it."""
        return {"basename": self.basename, "bytes": self.size_bytes, "hashes": dict(self.hashes)}

    @classmethod
    def from_json(cls, value: Any, where: str) -> FileInfo:
        """The reverse of `to_json`.

        Raises:
            DataError: it is something else, or names a file outside of its folder.
        """
        sound = isinstance(value, dict) and isinstance(value.get("basename"), str)
        hashes = value.get("hashes") if sound else None
        if not isinstance(hashes, dict) or not all(isinstance(digest, str) for digest in hashes.values()):
            raise DataError("it does not name a shard's file with its size and hashes", where=where)
        size_bytes = _count(value, "bytes", MAX_SHARD_BYTES, where)
        return cls(basename=check_key(value["basename"]), size_bytes=size_bytes, hashes=hashes)


@dataclass(frozen=True, kw_only=True)
class ShardInfo:
    """One entry of `shards` in index.json."""

    column_names: tuple[str, ...]
    """In the order in which they lie in a sample; alphabetical in all that a writer made."""
    column_encodings: tuple[str, ...]
    column_sizes: tuple[int | None, ...]
    """Bytes of every value of a column; None where they differ."""
    samples: int
    size_limit: int | None = None
    """What the writer was asked to stay below, in bytes."""
    compression: str | None = None
    """`zstd`, or with a level `zstd:7`."""
    hashes: tuple[str, ...] = ()
    """Algorithms that both files were hashed with, sorted."""
    raw_data: FileInfo
    """The shard as it is read."""
    zip_data: FileInfo | None = None
    """The compressed shard, which is then the only file that exists."""

    @property
    def stored(self) -> FileInfo:
        """The file that lies in the folder."""
        return self.zip_data or self.raw_data

    def config(self) -> dict[str, Any]:
        """How the shard was written; also stands in the shard itself."""
        return {
            "version": VERSION,
            "format": FORMAT,
            "compression": self.compression,
            "hashes": list(self.hashes),
            "size_limit": self.size_limit,
            "column_names": list(self.column_names),
            "column_encodings": list(self.column_encodings),
            "column_sizes": list(self.column_sizes),
        }

    def to_json(self) -> dict[str, Any]:
        """As index.json holds it."""
        zip_data = self.zip_data.to_json() if self.zip_data else None
        return {**self.config(), "samples": self.samples, "raw_data": self.raw_data.to_json(), "zip_data": zip_data}

    @classmethod
    def from_json(cls, value: Any, where: str) -> ShardInfo:
        """The reverse of `to_json`.

        Args:
            value: what json.loads gave.
            where: names the entry in an error.

        Raises:
            DataError: it is something else, another format, or one that is not supported.
        """
        if not isinstance(value, dict):
            raise DataError("it is no JSON object", where=where)
        if value.get("version") != VERSION or value.get("format") != FORMAT:
            found = f"format {value.get('format')!r}, version {value.get('version')!r}"
            raise DataError(f"only MDS of version {VERSION} is read, not {found}", where=where)
        names, encodings = _texts(value, "column_names", where), _texts(value, "column_encodings", where)
        if len(names) != len(encodings) or len(set(names)) < len(names):
            raise DataError("column_names and column_encodings do not match", where=where)
        sizes = tuple(parse_encoding(text, name).size for name, text in zip(names, encodings, strict=True))
        if value.get("column_sizes") != list(sizes):
            raise DataError(f"column_sizes are {value.get('column_sizes')!r}, not {list(sizes)}", where=where)
        size_limit, compression, zipped = (value.get(key) for key in ("size_limit", "compression", "zip_data"))
        if not isinstance(compression, str | None) or (compression is None) != (zipped is None):
            raise DataError("compression and zip_data do not match", where=where)
        raw = FileInfo.from_json(value.get("raw_data"), where)
        samples = _count(value, "samples", MAX_SHARD_BYTES, where)
        if 4 + 4 * (samples + 1) > raw.size_bytes:
            raise DataError(f"{raw.size_bytes} bytes cannot hold {samples} samples", where=where)
        return cls(
            column_names=names,
            column_encodings=encodings,
            column_sizes=sizes,
            samples=samples,
            size_limit=size_limit if isinstance(size_limit, int) else None,
            compression=compression,
            hashes=_texts(value, "hashes", where),
            raw_data=raw,
            zip_data=None if zipped is None else FileInfo.from_json(zipped, where),
        )


def _texts(value: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    found = value.get(key)
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise DataError(f"{key} is no list of texts", where=where)
    return tuple(found)


def _count(value: Mapping[str, Any], key: str, limit: int, where: str) -> int:
    found = value.get(key)
    if type(found) is not int or not 0 <= found <= limit:
        raise DataError(f"{key} is {found!r}, no number between 0 and {limit}", where=where)
    return found
