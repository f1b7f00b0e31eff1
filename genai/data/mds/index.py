"""index.json, which makes a folder of shards a data set: written last, in one piece."""

from __future__ import annotations

import json
from collections.abc import Sequence

from genai.data.mds.shard_info import VERSION, ShardInfo
from genai.errors import DataError
from genai.storage.urls import join, open_store

INDEX = "index.json"


def read_index(url: str) -> list[ShardInfo]:
    """The shards of the data set in the folder or bucket `url`.

    Raises:
        DataError: there is no index, or it is damaged, or of another format.
    """
    return parse_index(open_store(url).read(INDEX), join(url, INDEX))


def parse_index(data: bytes, where: str) -> list[ShardInfo]:
    """The shards that the content of an index.json names.

    Args:
        data: the content.
        where: its URL, for errors.

    Raises:
        DataError: it is damaged, or of another format.
    """
    try:
        index = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"it is no JSON: {error}", where=where) from error
    if not isinstance(index, dict) or not isinstance(index.get("shards"), list) or index.get("version") != VERSION:
        raise DataError(f"it is no index of MDS shards of version {VERSION}", where=where)
    return [ShardInfo.from_json(entry, f"{where}: shard {number}") for number, entry in enumerate(index["shards"])]


def write_index(out: str, shards: Sequence[ShardInfo]) -> None:
    """Make a data set of the shards in `out`, which must all be there; an index that is there is replaced.

    Args:
        out: folder or bucket.
        shards: in the order that the data set shall have.

    Raises:
        DataError: two shards have the same file.
    """
    names = [shard.raw_data.basename for shard in shards]
    if len(set(names)) < len(names):
        raise DataError("two shards have the same name", where=out, fix="give each writer its own prefix")
    index = {"version": VERSION, "shards": [shard.to_json() for shard in shards]}
    open_store(out).write(INDEX, json.dumps(index, sort_keys=True).encode())
