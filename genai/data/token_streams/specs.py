"""The streams of a job file, and what their indexes say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from genai.data.mds.index import INDEX, parse_index
from genai.data.mds.shard_info import ShardInfo
from genai.errors import DataError, UsageError
from genai.log import get_logger
from genai.storage import ObjectStore, is_remote, join, open_store
from genai.storage.base import check_key

TOKENS = "tokens"
"""The column that holds the tokens, as llm-foundry calls it."""
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class StreamSpec:
    """One stream of `train_loader.dataset.streams`, with llm-foundry's names.

    At most one of `proportion`, `repeat` and `choose` may be given; see `genai.data.token_streams.mixing`.
    """

    name: str
    remote: str | None = None
    """Folder or bucket with the data set."""
    local: str | None = None
    """Folder with the data set where there is no `remote`."""
    split: str | None = None
    """Folder below it, e.g. `train`."""
    proportion: float | None = None
    """Share of the epoch, relative to the other streams' proportions."""
    repeat: float | None = None
    """How often each of its samples comes in an epoch, on average."""
    choose: int | None = None
    """How many of its samples come in an epoch."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A stream whose index was read."""

    spec: StreamSpec
    store: ObjectStore
    shards: tuple[ShardInfo, ...]
    version: str
    """Changes when the data set is written anew; part of the names in the cache."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Samples of each shard, shape (shards,)."""
        return np.array([shard.samples for shard in self.shards], dtype=np.int64)

    def is_in_place(self, shard: ShardInfo) -> bool:
        """Whether the shard can be mapped where it lies."""
        return shard.zip_data is None and self.store.local_path(shard.raw_data.basename) is not None

    def url_of(self, shard: ShardInfo) -> str:
        """Where the shard lies."""
        return join(self.store.url, shard.stored.basename)


def open_source(spec: StreamSpec) -> Source:
    """Read the index of a stream.

    Raises:
        DataError: there is no data set, its index is damaged, or a shard has no column of tokens.
        UsageError: neither `remote` nor `local` is given.
    """
    root = spec.remote or spec.local
    if root is None:
        raise UsageError(f"stream {spec.name!r} has neither remote nor local", fix="say where its shards lie")
    if spec.remote and spec.local and spec.remote != spec.local:
        how = "kept in the cache" if is_remote(spec.remote) else "read where they lie"
        _warn_once(f"stream {spec.name!r}: local is not used, the shards of {spec.remote} are {how}")
    store = open_store(join(root, check_key(spec.split)) if spec.split else root)
    data, found = store.read(INDEX), store.stat(INDEX)
    written = "" if found is None else f"{found.etag} {found.modified}"
    shards = parse_index(data, join(store.url, INDEX))
    for number, shard in enumerate(shards):
        _check_columns(shard, f"{join(store.url, INDEX)}: shard {number}")
    version = hashlib.sha256(data + written.encode()).hexdigest()[:16]
    return Source(spec=spec, store=store, shards=tuple(shards), version=version)


def fingerprint(sources: Sequence[Source]) -> str:
    """sha256 of what the indexes say of the content, wherever it lies: tells whether the data is still the same."""
    digest = hashlib.sha256()
    for source in sources:
        described = [{**shard.to_json(), "size_limit": None} for shard in source.shards]
        digest.update(json.dumps(described, sort_keys=True).encode())
    return digest.hexdigest()


def check_length(sources: Sequence[Source], seq_len: int) -> None:
    """Hold the length of the rows, where the indexes say it, against what is asked for.

    Raises:
        UsageError: rows are shorter than `seq_len`.
    """
    for source in sources:
        for shard in source.shards[:1]:
            encoding = shard.column_encodings[shard.column_names.index(TOKENS)]
            said = encoding.split(":")[2:]
            if said and said[0].isdigit():
                check_row_length(int(said[0]), seq_len, source.store.url)
                if int(said[0]) > seq_len:
                    _warn_once(f"{source.store.url}: only the first {seq_len} of {said[0]} tokens of each row are used")


def check_row_length(found: int, seq_len: int, where: str) -> None:
    """Raise a UsageError when rows of `found` tokens are shorter than `seq_len`."""
    if found < seq_len:
        raise UsageError(
            f"its rows have {found} tokens, max_seq_len is {seq_len}",
            where=where,
            fix=f"set max_seq_len: {found}, or convert the text anew (genai data convert)",
        )


def _check_columns(shard: ShardInfo, where: str) -> None:
    if TOKENS not in shard.column_names:
        found = ", ".join(map(repr, shard.column_names))
        fix = "make shards of tokens from it (genai data convert)"
        raise DataError(f"it has no column {TOKENS!r}, but {found}", where=where, fix=fix)


@cache
def _warn_once(text: str) -> None:
    """Warn; a job reads the same index several times."""
    _log.warning(text)
