"""What index.json says is checked before it is used."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from genai.data.mds.shard_info import ShardInfo
from genai.errors import DataError

ENTRY: dict[str, Any] = {
    "column_encodings": ["ndarray:uint16:4", "str"],
    "column_names": ["tokens", "url"],
    "column_sizes": [8, None],
    "compression": "zstd",
    "format": "mds",
    "hashes": ["sha1"],
    "raw_data": {"basename": "shard.00000.mds", "bytes": 100, "hashes": {"sha1": "aa"}},
    "samples": 3,
    "size_limit": 67108864,
    "version": 2,
    "zip_data": {"basename": "shard.00000.mds.zstd", "bytes": 50, "hashes": {"sha1": "bb"}},
}


def test_an_entry_comes_back() -> None:
    info = ShardInfo.from_json(ENTRY, "x")
    assert info.to_json() == ENTRY
    assert info.stored.basename == "shard.00000.mds.zstd"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", 1),
        ("format", "json"),
        ("samples", -1),
        ("samples", True),
        ("samples", 2**40),
        ("samples", 30),
        ("column_names", ["tokens"]),
        ("column_names", ["tokens", "tokens"]),
        ("column_names", "tokens"),
        ("column_encodings", ["pkl", "str"]),
        ("column_sizes", [9, None]),
        ("compression", None),
        ("zip_data", None),
        ("compression", 3),
        ("hashes", None),
        ("raw_data", None),
        ("raw_data", {"basename": "../x", "bytes": 100, "hashes": {}}),
        ("raw_data", {"basename": "/etc/passwd", "bytes": 100, "hashes": {}}),
        ("raw_data", {"basename": "x", "bytes": 2**40, "hashes": {}}),
        ("raw_data", {"basename": "x", "bytes": 1e3, "hashes": {}}),
        ("raw_data", {"basename": "x", "bytes": 100, "hashes": {"sha1": 3}}),
        ("raw_data", {"basename": 3, "bytes": 100, "hashes": {}}),
    ],
)
def test_a_wrong_entry_is_one_line(key: str, value: Any) -> None:
    entry = {**copy.deepcopy(ENTRY), key: value}
    with pytest.raises(DataError) as caught:
        ShardInfo.from_json(entry, "index.json: shard 0")
    assert "\n" not in str(caught.value)


def test_no_object_is_refused() -> None:
    with pytest.raises(DataError, match="no JSON object"):
        ShardInfo.from_json([], "x")
