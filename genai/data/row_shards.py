"""Rows from shards (MDS): all of them once, in the order of the streams and of their shards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from genai.config.finetune import FinetuningDatasetConfig
from genai.data.faults import DataConfigError
from genai.data.mds import INDEX, read_index, read_samples
from genai.data.readers import Record
from genai.errors import DataError, Problem
from genai.log import get_logger
from genai.storage import is_remote, join, open_store
from genai.storage.base import check_key

_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A data set of shards, as the job file names it."""

    key: str
    """Below the loader."""
    remote: str | None
    local: str | None
    split: str | None

    def url(self) -> str:
        """The folder that holds its index: the split's, or where there is none the one above it.

        Raises:
            DataError: there is no index.
        """
        if self.remote and self.local and self.remote != self.local:
            how = "kept in memory" if is_remote(self.remote) else "read where they lie"
            _log.warning("local: %s is not used, the shards of %s are %s", self.local, self.remote, how)
        root = self.remote or self.local or ""
        below = join(root, check_key(self.split)) if self.split else root
        url = below if below == root or open_store(below).stat(INDEX) is not None else root
        read_index(url)
        return url


def read_shards(dataset_cfg: FinetuningDatasetConfig) -> Iterator[Record]:
    """The rows of `streams`, or of `remote` and `local`. All indexes are read before the first row.

    Raises:
        DataConfigError: there is no data set in a place, or its index is damaged; all such places are named.
        DataError: a shard is missing or damaged.
    """
    urls: list[str] = []
    wrong: list[tuple[str, Problem]] = []
    for place in _places(dataset_cfg):
        try:
            urls.append(place.url())
        except DataError as error:
            fix = error.fix or "genai data convert --to rows makes shards of rows"
            message = f"there are no shards: {error.message}"
            wrong.append((place.key, Problem(message=message, where=place.remote or place.local, fix=fix)))
    if wrong:
        raise DataConfigError([problem for _, problem in wrong], key=wrong[0][0])
    return (
        Record(values=values, source=f"{url}[{number}]")
        for url in urls
        for number, values in enumerate(read_samples(url, validate_hash=dataset_cfg.validate_hash), 1)
    )


def _places(cfg: FinetuningDatasetConfig) -> Iterator[_Place]:
    if not cfg.streams:
        key = f"dataset.{'remote' if cfg.remote else 'local'}"
        yield _Place(key=key, remote=cfg.remote, local=cfg.local, split=cfg.split)
    for name, stream in (cfg.streams or {}).items():
        key = f"dataset.streams.{name}.{'remote' if stream.remote else 'local'}"
        yield _Place(key=key, remote=stream.remote, local=stream.local, split=stream.split)
