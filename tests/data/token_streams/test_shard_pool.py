"""Shards that come through the cache: each once, few at a time, safe between processes, and evicted when not needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from genai.data.token_streams import StreamSpec, TokenStream, specs
from genai.errors import DataError, UsageError
from genai.storage import ObjectInfo, open_store
from genai.storage.local import LocalStore
from genai.storage.sized_cache import SizedCache

REPOSITORY = Path(__file__).resolve().parents[3]
NUM_SHARDS = 12


class Far:
    """A folder that can only be read object by object, as a bucket; notes how often each was begun to be read."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.begun: dict[str, int] = {}
        self._store = LocalStore(Path(url))
        self._lock = threading.Lock()

    def local_path(self, key: str) -> None:
        return None

    def stat(self, key: str) -> ObjectInfo | None:
        return self._store.stat(key)

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        if start == 0:
            with self._lock:
                self.begun[key] = self.begun.get(key, 0) + 1
        return self._store.read(key, start, end)


@pytest.fixture
def far(tokens: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> Far:
    """120 samples in 12 shards that cannot be mapped where they lie."""
    store = Far(tokens(range(120), a_shard=10, hashes=["sha1"]))
    monkeypatch.setattr(specs, "open_store", lambda url: store)
    return store


def shard_bytes(store: Far) -> int:
    return next(Path(store.url).glob("*.mds")).stat().st_size


def samples(stream: TokenStream, batches: int) -> list[int]:
    return [int(token) for _ in range(batches) for token in stream.next_batch().input_ids[:, 0]]


def cached(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if not path.name.startswith(".")]


def test_each_shard_is_fetched_once_and_the_order_is_that_of_local_shards(
    far: Far, hundred: str, tmp_path: Path, open_stream: Callable[..., TokenStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    from_cache = samples(open_stream(far.url), 90)
    assert {key: count for key, count in far.begun.items() if key != "index.json"} == {
        f"s{number:03}.00000.mds": 1 for number in range(NUM_SHARDS)
    }
    assert len(cached(tmp_path / "cache")) == NUM_SHARDS
    monkeypatch.undo()
    assert samples(open_stream(far.url), 90) == from_cache


def test_a_second_stream_finds_what_the_first_one_fetched(far: Far, open_stream: Callable[..., TokenStream]) -> None:
    first = open_stream(far.url, rank=0, world_size=2)
    second = open_stream(far.url, rank=1, world_size=2)
    found = [samples(stream, 1) for _ in range(30) for stream in (first, second)]
    assert sorted(sample for part in found for sample in part) == list(range(120))
    assert max(count for key, count in far.begun.items() if key != "index.json") == 1


def test_the_first_batch_waits_for_one_shard_and_few_are_fetched_ahead(
    far: Far, open_stream: Callable[..., TokenStream]
) -> None:
    stream = open_stream(far.url, predownload_shards=2, global_batch_size=2)
    stream.next_batch()
    stream.close()
    assert len(far.begun) - 1 <= 1 + 2 + 3  # in use, ahead, and those of the chunks that are ready


def test_going_on_reads_no_shard_that_was_used_up(far: Far, open_stream: Callable[..., TokenStream]) -> None:
    stream = open_stream(far.url, shuffle=False)
    state = {**stream.state_dict(), "batch_in_epoch": 25}
    stream.load_state_dict(state)
    assert samples(stream, 1) == [100, 101, 102, 103]
    assert not {f"s{number:03}.00000.mds" for number in range(4, 10)} & far.begun.keys()


def test_the_cache_stays_below_its_limit(far: Far, tmp_path: Path, open_stream: Callable[..., TokenStream]) -> None:
    limit = 8 * shard_bytes(far)
    cache = SizedCache(tmp_path / "cache", None)
    stream = open_stream(far.url, cache_limit_bytes=limit)
    expected = open_stream(far.url, cache_dir=tmp_path / "other")
    for _ in range(60):
        assert samples(stream, 1) == samples(expected, 1)
        assert cache.used_bytes() <= limit
    assert max(far.begun.values()) > 2  # some came twice


def test_a_limit_that_the_shards_in_use_pass_is_refused_at_once(
    far: Far, open_stream: Callable[..., TokenStream]
) -> None:
    size = shard_bytes(far)
    with pytest.raises(UsageError, match=f"cache limit of {3 * size} bytes is too small: {7 * size} bytes"):
        open_stream(far.url, cache_limit_bytes=3 * size)
    assert samples(open_stream(far.url, cache_limit_bytes=7 * size, predownload_shards=9), 30)


def test_an_object_cut_short_ends_in_one_line_and_leaves_nothing(
    far: Far, tmp_path: Path, open_stream: Callable[..., TokenStream]
) -> None:
    path = Path(far.url) / "s005.00000.mds"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(DataError, match=r"s005\.00000\.mds: it does not have the"):
        samples(open_stream(far.url), 30)
    path.write_bytes(data[:-1] + b"\xff")
    with pytest.raises(DataError, match=r"s005\.00000\.mds: it is damaged: its sha1"):
        samples(open_stream(far.url, validate_hash="sha1"), 30)
    path.write_bytes(data)
    assert sorted(samples(open_stream(far.url, validate_hash="sha1"), 30)) == list(range(120))


def test_a_set_that_was_written_anew_is_fetched_anew(far: Far, open_stream: Callable[..., TokenStream]) -> None:
    samples(open_stream(far.url), 30)
    index = Path(far.url) / "index.json"
    index.write_bytes(index.read_bytes())
    samples(open_stream(far.url), 30)
    assert {count for key, count in far.begun.items() if key != "index.json"} == {2}


def test_compressed_shards_of_this_disk_come_through_the_cache(
    tokens: Callable[..., str], tmp_path: Path, open_stream: Callable[..., TokenStream]
) -> None:
    url = tokens(range(40), a_shard=10, compression="zstd", hashes=["sha1"])
    assert sorted(samples(open_stream(url, validate_hash="sha1"), 10)) == list(range(40))
    assert len(cached(tmp_path / "cache")) == 4
    stored = Path(url) / "s002.00000.mds.zstd"
    stored.write_bytes(stored.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"s002\.00000\.mds\.zstd"):
        samples(open_stream(url, cache_dir=tmp_path / "other"), 10)


def test_a_shard_that_is_deleted_while_it_is_mapped_is_read_to_its_end(
    far: Far, tmp_path: Path, open_stream: Callable[..., TokenStream]
) -> None:
    stream = open_stream(far.url, shuffle=False, predownload_shards=NUM_SHARDS)
    found = samples(stream, 1)
    for shard in range(NUM_SHARDS):
        stream._reader._pool.block(shard)  # now all are mapped
    for path in cached(tmp_path / "cache"):
        path.unlink()
    assert found + samples(stream, 29) == list(range(120))
    assert max(far.begun.values()) == 1


RANK = """
import json, sys
from pathlib import Path
from genai.data.token_streams import StreamSpec, TokenStream
url, cache, rank, world_size, batches, limit = sys.argv[1:7]
stream = TokenStream(
    [StreamSpec(name="s", remote=url)], seq_len=6, global_batch_size=4, seed=7, shuffle_block_size=40, drop_last=True,
    rank=int(rank), world_size=int(world_size), cache_dir=Path(cache), cache_limit_bytes=int(limit) or None,
)
print(json.dumps([[i for (i,) in stream.next_batch().row_ids] for _ in range(int(batches))]))
stream.close()
"""


def ranks_of(url: str, cache: Path, world_size: int, batches: int, limit: int) -> list[list[int]]:
    """The global batches that processes at one cache read together."""
    command = [sys.executable, "-c", RANK, url, str(cache)]
    started = [
        subprocess.Popen(
            [*command, str(rank), str(world_size), str(batches), str(limit)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        for rank in range(world_size)
    ]
    found = [json.loads(process.communicate(timeout=120)[0]) for process in started]
    return [[sample for part in parts for sample in part] for parts in zip(*found, strict=True)]


@pytest.mark.integration
@pytest.mark.parametrize(("world_size", "limit_shards"), [(2, 0), (4, 7)])
def test_processes_at_one_cache_from_a_bucket(
    s3_bucket: str,
    tokens: Callable[..., str],
    tmp_path: Path,
    world_size: int,
    limit_shards: int,
    open_stream: Callable[..., TokenStream],
) -> None:
    """The smallest limit that is allowed, and processes that do not wait for one another: nobody waits for ever."""
    store, size = open_store(s3_bucket), 0
    for path in Path(tokens(range(120), a_shard=10)).iterdir():
        store.write(path.name, path.read_bytes())
        size = max(size, path.stat().st_size if path.suffix == ".mds" else 0)
    limit = limit_shards * size
    batches = ranks_of(s3_bucket, tmp_path / "cache", world_size, 60, limit)
    stream = open_stream(s3_bucket, cache_dir=tmp_path / "other")
    assert batches == [samples(stream, 1) for _ in range(60)]
    for epoch in (batches[:30], batches[30:]):
        assert sorted(sample for batch in epoch for sample in batch) == list(range(120))
    assert not limit or SizedCache(tmp_path / "cache", None).used_bytes() <= limit


def test_closing_does_not_wait_for_shards_that_are_still_to_come(
    far: Far, open_stream: Callable[..., TokenStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    read = far.read
    monkeypatch.setattr(far, "read", lambda *where: read(*where) if where[0] == "index.json" else gate.wait(10) and b"")
    stream = open_stream(far.url, concurrency=1)
    faults: list[BaseException] = []

    def take() -> None:
        try:
            stream.next_batch()
        except BaseException as error:
            faults.append(error)

    waiting = threading.Thread(target=take)
    waiting.start()
    threading.Timer(0.1, gate.set).start()  # lets the one request go that is on its way
    stream.close()
    waiting.join(10)
    assert not waiting.is_alive()
    assert len(faults) == 1


def test_specs_are_numbered_through_all_streams(far: Far, open_stream: Callable[..., TokenStream]) -> None:
    both = [StreamSpec(name="a", remote=far.url), StreamSpec(name="b", remote=far.url)]
    stream = open_stream(both, drop_last=False)
    ids = [sample for _ in range(60) for (sample,) in stream.next_batch().row_ids]
    assert sorted(ids) == list(range(240))
