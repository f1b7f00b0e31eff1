"""What every store does: the same tests for a folder and for a bucket."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from genai.errors import DataError
from genai.storage import ObjectStore
from genai.storage.base import check_key


def test_what_is_written_is_read_whole_and_in_ranges(store: ObjectStore) -> None:
    store.write("a/b.bin", b"0123456789")
    assert store.read("a/b.bin") == b"0123456789"
    assert store.read("a/b.bin", 2, 5) == b"234"
    assert store.read("a/b.bin", 7) == b"789"
    assert store.read("a/b.bin", 8, 100) == b"89"
    assert store.read("a/b.bin", 10) == store.read("a/b.bin", 50, 60) == store.read("a/b.bin", 5, 5) == b""
    assert list(store.chunks("a/b.bin", 4)) == [b"0123", b"4567", b"89"]


def test_an_empty_object(store: ObjectStore) -> None:
    store.write("empty", b"")
    assert store.read("empty") == b""
    assert list(store.chunks("empty")) == []
    found = store.stat("empty")
    assert found is not None
    assert found.size_bytes == 0


def test_a_write_takes_the_place_of_what_was_there(store: ObjectStore) -> None:
    store.write("key", b"first")
    before = store.stat("key")
    store.write("key", b"second!")
    after = store.stat("key")
    assert store.read("key") == b"second!"
    assert before is not None
    assert after is not None
    assert (before.size_bytes, after.size_bytes) == (5, 7)
    assert before.etag != after.etag
    assert abs(after.modified - time.time()) < 60


def test_a_list_holds_what_begins_with_the_prefix_in_order(store: ObjectStore) -> None:
    for key in ("b/2", "b/1", "b/deep/er", "ba", "a", "ü/ñ x"):
        store.write(key, key.encode())
    assert [info.key for info in store.list()] == ["a", "b/1", "b/2", "b/deep/er", "ba", "ü/ñ x"]
    assert [info.key for info in store.list("b")] == ["b/1", "b/2", "b/deep/er", "ba"]
    assert [info.key for info in store.list("b/")] == ["b/1", "b/2", "b/deep/er"]
    assert [info.key for info in store.list("b/d")] == ["b/deep/er"]
    assert store.list("c") == store.list("b/1/") == []
    assert [info.size_bytes for info in store.list("b/")] == [3, 3, 9]
    assert store.read("ü/ñ x") == "ü/ñ x".encode()


def test_delete_and_copy(store: ObjectStore) -> None:
    store.write("a", b"content")
    store.copy("a", "deep/b")
    store.delete("a")
    store.delete("a")
    assert store.stat("a") is None
    assert store.read("deep/b") == b"content"


def test_files_go_up_and_come_down(store: ObjectStore, tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "source").write_bytes(content)
    store.upload("deep/er", tmp_path / "source")
    store.download("deep/er", tmp_path / "new folder" / "target")
    assert (tmp_path / "new folder" / "target").read_bytes() == content
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["target"]
    assert store.sweep() == 0


def test_what_is_not_there_is_named_and_something_near_suggested(store: ObjectStore, tmp_path: Path) -> None:
    store.write("data/rows.jsonl", b"")
    assert store.stat("data/row.jsonl") is None
    for attempt in (
        lambda: store.read("data/row.jsonl"),
        lambda: list(store.chunks("data/row.jsonl")),
        lambda: store.download("data/row.jsonl", tmp_path / "x" / "y"),
        lambda: store.copy("data/row.jsonl", "z"),
    ):
        with pytest.raises(DataError) as caught:
            attempt()
        assert str(caught.value) == (f"no object 'data/row.jsonl' in {store.url} (did you mean 'data/rows.jsonl'?)")
    assert not list(tmp_path.glob("x/*"))


UNSAFE = ["", "/abs", "../up", "a/../b", "a/./b", "a//b", "a/", "nul\0", "back\\slash", ".."]


@pytest.mark.parametrize("key", UNSAFE)
def test_a_key_cannot_leave_the_store(key: str) -> None:
    with pytest.raises(DataError, match="no safe object key"):
        check_key(key)


def test_every_operation_looks_at_its_key(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    for attempt in (
        lambda: store.read("../secret"),
        lambda: list(store.chunks("../secret")),
        lambda: store.write("../secret", b""),
        lambda: store.upload("../secret", tmp_path / "secret"),
        lambda: store.download("../secret", tmp_path / "copy"),
        lambda: store.stat("../secret"),
        lambda: store.delete("../secret"),
        lambda: store.copy("../secret", "x"),
        lambda: store.copy("x", "../secret"),
    ):
        with pytest.raises(DataError, match="no safe object key"):
            attempt()
    assert (tmp_path / "secret").read_bytes() == b"secret"
