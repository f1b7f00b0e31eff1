from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genai.errors import DataError, GenaiError, UsageError
from genai.storage import sized_cache
from genai.storage.atomic import CACHE_TAG
from genai.storage.cache import collect
from genai.storage.locks import exclusive
from genai.storage.sized_cache import SizedCache


def writes(content: bytes, calls: list[str] | None = None) -> Callable[[Path], None]:
    def fetch(path: Path) -> None:
        if calls is not None:
            calls.append(path.name)
        path.write_bytes(content)

    return fetch


def never(path: Path) -> None:
    raise AssertionError(f"{path} was fetched again")


def objects(root: Path) -> list[str]:
    return sorted(path.name.rpartition("-")[0] for path in root.iterdir() if not path.name.startswith("."))


def put(cache: SizedCache, key: str, size_bytes: int = 10) -> None:
    with cache.use(key, size_bytes, writes(b"x" * size_bytes)):
        pass


def test_what_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    cache = SizedCache(tmp_path / "cache", None)
    with cache.use("s3://b/deep/shard.00000.mds@1", 3, writes(b"abc")) as path:
        assert path.read_bytes() == b"abc"
        assert path.name.startswith("shard.00000.mds.1-")
    with SizedCache(tmp_path / "cache", 3).use("s3://b/deep/shard.00000.mds@1", 3, never) as path:
        assert path.read_bytes() == b"abc"
    assert cache.has("s3://b/deep/shard.00000.mds@1", 3)
    assert not cache.has("s3://b/deep/shard.00000.mds@2", 3)
    assert cache.used_bytes() == 3


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    cache = SizedCache(tmp_path, 30)
    for key in "abc":
        put(cache, key)
    with cache.use("a", 10, never):
        pass
    put(cache, "d")
    assert objects(tmp_path) == ["a", "c", "d"]
    put(cache, "e", 20)
    assert objects(tmp_path) == ["d", "e"]
    assert cache.used_bytes() == 30


@given(
    limit=st.integers(10, 40),
    uses=st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=25),
)
@settings(max_examples=15)
def test_one_process_sees_the_least_recently_used_go_in_order(limit: int, uses: list[tuple[str, bool]]) -> None:
    """Against a dictionary in the order of use. One object may be in use while the others come and go."""
    sizes = {key: 3 + ord(key) % 7 for key in "abcdef"}
    model: dict[str, int] = {}
    with TemporaryDirectory() as folder, ExitStack() as held:
        root = Path(folder)
        cache = SizedCache(root, limit)
        with cache.use("held", 1, writes(b"x")):
            for key, again in uses:
                calls: list[str] = []
                with cache.use(key, sizes[key], writes(b"x" * sizes[key], calls)):
                    assert bool(calls) is (key not in model)
                if again:
                    held.enter_context(cache.use("held", 1, never)).stat()
                model[key] = model.pop(key, sizes[key])
                while sum(model.values()) + 1 > limit:
                    del model[next(iter(model))]
                assert objects(root) == sorted([*model, "held"])
                assert cache.used_bytes() == sum(model.values()) + 1


def test_what_is_in_use_stays_and_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = SizedCache(tmp_path, 20)
    monkeypatch.setattr(sized_cache, "WAIT_FOR_ROOM_S", 0.2)
    with cache.use("a", 10, writes(b"x" * 10)):
        put(cache, "b")
        put(cache, "c")
        assert objects(tmp_path) == ["a", "c"]
        with pytest.raises(GenaiError, match=r"no room for 15 bytes.*raise the limit by 5 bytes or more, or read less"):
            put(cache, "d", 15)
        assert objects(tmp_path) == ["a"]
        monkeypatch.setattr(sized_cache, "WAIT_FOR_ROOM_S", 10)
        waiting = threading.Thread(target=put, args=(cache, "d", 15))
        waiting.start()
        time.sleep(0.1)
        assert objects(tmp_path) == ["a"]
    waiting.join()
    assert objects(tmp_path) == ["d"]


def test_one_object_larger_than_the_limit_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the cache limit of 20 bytes is smaller than one object of 21 bytes"):
        put(SizedCache(tmp_path, 20), "a", 21)


def test_many_who_want_the_same_fetch_it_once(tmp_path: Path) -> None:
    cache, calls = SizedCache(tmp_path, 10), list[str]()
    together = threading.Barrier(8, timeout=10)
    seen = []

    def fetch(path: Path) -> None:
        time.sleep(0.05)
        writes(b"0123456789", calls)(path)

    def user() -> None:
        together.wait()
        with cache.use("a", 10, fetch) as path:
            seen.append(path.read_bytes())
            time.sleep(0.02)

    threads = [threading.Thread(target=user) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [b"0123456789"] * 8
    assert len(calls) == 1


def test_what_a_fetch_raises_is_raised_and_nothing_stays(tmp_path: Path) -> None:
    cache = SizedCache(tmp_path, 10)

    def fetch(path: Path) -> None:
        path.write_bytes(b"half")
        raise DataError("planted")

    with pytest.raises(DataError, match="planted"), cache.use("a", 10, fetch):
        pass
    with (
        pytest.raises(DataError, match="10 bytes were expected, but 4 bytes came"),
        cache.use("a", 10, writes(b"half")),
    ):
        pass
    with (
        pytest.raises(DataError, match="10 bytes were expected, but nothing came"),
        cache.use("a", 10, lambda path: None),
    ):
        pass
    assert objects(tmp_path) == []
    assert not list(tmp_path.glob(".*a-*"))
    put(cache, "a")


def test_a_file_of_another_size_is_fetched_again(tmp_path: Path) -> None:
    cache = SizedCache(tmp_path, 100)
    with cache.use("a", 10, writes(b"x" * 10)) as path:
        pass
    path.write_bytes(b"cut off")
    with cache.use("a", 10, writes(b"y" * 10)) as path:
        assert path.read_bytes() == b"y" * 10


def test_other_files_in_the_folder_are_neither_counted_nor_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_bytes(b"x" * 1000)
    cache = SizedCache(tmp_path, 10)
    put(cache, "a")
    put(cache, "b")
    assert cache.used_bytes() == 10
    assert (tmp_path / "mine.txt").exists()


def test_the_collector_of_the_whole_cache_leaves_it_alone_while_something_is_in_use(tmp_path: Path) -> None:
    (tmp_path / CACHE_TAG).touch()
    cache = SizedCache(tmp_path / "shards" / "set", 100)
    with cache.use("a", 10, writes(b"x" * 10)):
        assert [entry.name for entry in collect(tmp_path, max_bytes=0).in_use] == ["set"]
    assert [entry.name for entry in collect(tmp_path, max_bytes=0).removed] == ["set"]
    put(cache, "a")


DIE = """
import os, sys, time
from pathlib import Path
from genai.storage.sized_cache import SizedCache
def fetch(path):
    path.write_bytes(b"x" * 5)
    print("fetching", flush=True)
    time.sleep(60)
with SizedCache(Path(sys.argv[1]), 10).use("dead", 10, fetch):
    pass
"""


def test_what_is_being_fetched_counts_until_its_process_dies(
    tmp_path: Path, start_python: Callable[..., subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = SizedCache(tmp_path, 10)
    with start_python(DIE, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "fetching\n"
        assert cache.used_bytes() == 10
        monkeypatch.setattr(sized_cache, "WAIT_FOR_ROOM_S", 0.1)
        with pytest.raises(GenaiError, match="no room for 1 bytes"):
            put(cache, "a", 1)
    put(cache, "a")
    assert objects(tmp_path) == ["a"]
    assert not list(tmp_path.glob(".dead*"))


STRESS = """
import os, random, sys, time
from pathlib import Path
from genai.storage.sized_cache import SizedCache
root, number, limit, seconds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
cache = SizedCache(root / "cache", limit)
choose = random.Random(number)
def fetch_of(key, size):
    def fetch(path):
        with open(root / "fetched", "a") as log:
            log.write(f"{key}\\n")
        with open(path, "wb") as stream:
            for _ in range(4):
                stream.write(bytes([key]) * (size // 4))
                stream.flush()
                time.sleep(choose.choice([0, 0.001]))
    return fetch
until = time.monotonic() + seconds
rounds = 0
while time.monotonic() < until:
    key = choose.randrange(12)
    size = 4000 + 400 * key
    with cache.use(f"object/{key}", size, fetch_of(key, size)) as path:
        time.sleep(choose.choice([0, 0, 0.002]))
        content = path.read_bytes()
        assert content == bytes([key]) * size, (key, len(content))
    rounds += 1
print(rounds)
"""


@pytest.mark.integration
def test_many_processes_never_pass_the_limit_and_never_lose_what_they_use(
    tmp_path: Path, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    limit, most = 45_000, 0
    processes = [start_python(STRESS, tmp_path, number, limit, 2.5) for number in range(4)]
    doomed = random.Random(0)
    while any(process.poll() is None for process in processes):
        most = max(most, _bytes_below(tmp_path / "cache"))
        if doomed.random() < 0.02 and len(processes) < 8:
            processes.append(start_python(STRESS, tmp_path, len(processes), limit, 60))
        for process in processes[4:]:
            if doomed.random() < 0.02:
                process.kill()
        time.sleep(0.01)
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes[:4]] == [0] * 4, said
    assert {process.returncode for process in processes[4:]} <= {-9}, said
    rounds = sum(int(text) for text in said[:4])
    fetched = len((tmp_path / "fetched").read_text().splitlines())
    assert 0 < most <= limit
    assert rounds > fetched > 12
    assert SizedCache(tmp_path / "cache", limit).used_bytes() <= limit


def _bytes_below(folder: Path) -> int:
    """Of objects and what is being fetched, as the disk shows it; not of lock files."""
    found = 0
    with exclusive(folder / "ledger", timeout_s=10):  # else we would count what goes and what comes in its place
        for root, _, names in os.walk(folder):
            for name in names:
                with suppress(FileNotFoundError):
                    found += 0 if name.endswith(".lock") else os.stat(os.path.join(root, name)).st_size
    return found
