"""A shard by ranged requests: whole and compared, or one line."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from genai.data.mds import ShardInfo, read_index, read_shard
from genai.data.token_streams import download
from genai.data.token_streams.download import download_shard
from genai.errors import DataError
from genai.storage.local import LocalStore


class InPairs(LocalStore):
    """A store whose reads wait for one another, two at a time."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.num_reads = 0
        self._pair = threading.Barrier(2, timeout=10)

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        self._pair.wait()
        self.num_reads += 1
        return super().read(key, start, end)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadPoolExecutor]:
    """Two at a time; parts may be small."""
    monkeypatch.setattr(download, "MIN_PART_BYTES", 10)
    with ThreadPoolExecutor(2) as pool:
        yield pool


def shard_of(url: str) -> ShardInfo:
    return read_index(url)[0]


@pytest.mark.parametrize("compression", [None, "zstd", "gz"])
def test_parts_make_the_shard(
    tokens: Callable[..., str], tmp_path: Path, requests: ThreadPoolExecutor, compression: str | None
) -> None:
    url = tokens(range(50), a_shard=50, compression=compression, hashes=["sha1"])
    store, info, got = InPairs(Path(url)), shard_of(url), tmp_path / "got"
    download_shard(store, info, got, requests, validate_hash="sha1")
    assert store.num_reads == 4
    assert got.read_bytes() == bytes(read_shard(LocalStore(Path(url)), info).data[:])


@pytest.mark.parametrize("change", [-200, -1, 1])
@pytest.mark.parametrize("compression", [None, "zstd"])
def test_an_object_of_another_size(
    tokens: Callable[..., str], tmp_path: Path, requests: ThreadPoolExecutor, compression: str | None, change: int
) -> None:
    url = tokens(range(50), a_shard=50, compression=compression)
    info = shard_of(url)
    path = Path(url) / info.stored.basename
    data = path.read_bytes()
    path.write_bytes(data[:change] if change < 0 else data + b"x")
    with pytest.raises(DataError, match=f"{info.stored.basename}: it does not have the {len(data)} bytes"):
        download_shard(LocalStore(Path(url)), info, tmp_path / "got", requests)


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_an_object_of_another_content(
    tokens: Callable[..., str], tmp_path: Path, requests: ThreadPoolExecutor, compression: str | None
) -> None:
    url = tokens(range(50), a_shard=50, compression=compression, hashes=["sha1"])
    info = shard_of(url)
    path = Path(url) / info.stored.basename
    path.write_bytes(path.read_bytes()[:-3] + b"abc")
    with pytest.raises(DataError, match="it is damaged: its sha1"):
        download_shard(LocalStore(Path(url)), info, tmp_path / "got", requests, validate_hash="sha1")


def test_a_missing_object(tokens: Callable[..., str], tmp_path: Path, requests: ThreadPoolExecutor) -> None:
    url = tokens(range(50), a_shard=50)
    info = shard_of(url)
    (Path(url) / info.stored.basename).unlink()
    with pytest.raises(DataError, match=info.stored.basename):
        download_shard(LocalStore(Path(url)), info, tmp_path / "got", requests)
