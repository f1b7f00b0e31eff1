from __future__ import annotations

import hashlib
import json
import math
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from genai.errors import DataError, GenaiError
from genai.storage import ObjectStore, atomic, open_store
from genai.storage.base import ObjectInfo
from genai.storage.checksums import sha256_of
from genai.storage.local import LocalStore
from genai.storage.manifest import (
    MANIFEST,
    FileEntry,
    FolderWriter,
    Manifest,
    delete_folder,
    download_folder,
    list_folders,
    list_leftovers,
    read_manifest,
    remove_leftovers,
    verify,
    write_folder,
)


def write(store: ObjectStore, prefix: str, files: dict[str, bytes]) -> Manifest:
    with FolderWriter(store, prefix, metadata={"step": 3}) as writer:
        for name, content in files.items():
            (writer.path / name).parent.mkdir(parents=True, exist_ok=True)
            (writer.path / name).write_bytes(content)
        return writer.commit()


def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return [info.key for info in store.list(prefix)]


FILES = {"weights": b"w" * 1000, "sub/state.json": b"{}"}


def test_a_folder_is_written_listed_read_and_verified(store: ObjectStore) -> None:
    manifest = write(store, "ck/ba1", FILES)
    assert [(entry.name, entry.size_bytes) for entry in manifest.files] == [("sub/state.json", 2), ("weights", 1000)]
    assert keys(store, "ck/") == ["ck/ba1/manifest.json", "ck/ba1/sub/state.json", "ck/ba1/weights"]
    assert read_manifest(store, "ck/ba1") == manifest
    assert manifest.metadata == {"step": 3}
    assert list_folders(store, "ck") == ["ba1"]
    assert list_folders(store) == []
    assert verify(store, "ck/ba1", deep=True).ok
    assert list_leftovers(store, "ck") == []


def test_a_folder_is_written_from_files_elsewhere(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"abc")
    manifest = write_folder(store, "model", {"inner/name": tmp_path / "source"})
    assert manifest.files == (FileEntry(name="inner/name", size_bytes=3, sha256=sha256_of(tmp_path / "source")),)
    assert store.read("model/inner/name") == b"abc"
    assert verify(store, "model", deep=True).ok


def test_nothing_appears_without_commit(store: ObjectStore) -> None:
    with FolderWriter(store, "ck/ba1") as writer:
        (writer.path / "weights").write_bytes(b"x")
        assert list_folders(store, "ck") == []
    with pytest.raises(RuntimeError, match="planted"), FolderWriter(store, "ck/ba1") as writer:
        (writer.path / "weights").write_bytes(b"x")
        raise RuntimeError("planted")
    assert keys(store) == []
    assert not writer.path.exists()


def test_a_folder_needs_a_file(store: ObjectStore) -> None:
    with pytest.raises(ValueError, match="at least one file"), FolderWriter(store, "empty") as writer:
        writer.commit()


def test_no_file_can_be_called_like_the_manifest(store: ObjectStore) -> None:
    with pytest.raises(ValueError, match=r"the name manifest\.json is taken"):
        write(store, "folder", {MANIFEST: b"{}"})
    assert keys(store) == []


def test_a_second_writing_takes_the_place_of_the_first(store: ObjectStore) -> None:
    write(store, "ck/ba1", {**FILES, "old": b"old"})
    write(store, "ck/ba1", {"weights": b"new"})
    assert keys(store) == ["ck/ba1/manifest.json", "ck/ba1/weights"]
    assert store.read("ck/ba1/weights") == b"new"
    assert verify(store, "ck/ba1", deep=True).ok


def damage(store: ObjectStore, what: str) -> None:
    if what == "changed":
        store.write("ck/ba1/weights", b"x" + b"w" * 999)
    elif what == "shortened":
        store.write("ck/ba1/weights", b"w")
    elif what == "missing":
        store.delete("ck/ba1/weights")
    elif what == "no manifest":
        store.delete(f"ck/ba1/{MANIFEST}")
    elif what == "cut manifest":
        store.write(f"ck/ba1/{MANIFEST}", store.read(f"ck/ba1/{MANIFEST}")[:-20])
    else:
        store.write(f"ck/ba1/{MANIFEST}", json.dumps({"entries": []}).encode())


@pytest.mark.parametrize(
    ("what", "deep", "reason"),
    [
        ("changed", True, "weights has another SHA-256 than when it was written"),
        ("changed", False, ""),
        ("shortened", False, "weights has 1 bytes, not 1000"),
        ("missing", False, "weights is missing"),
        ("no manifest", False, "there is no manifest.json"),
        ("cut manifest", False, "the manifest is damaged"),
        ("manifest of another program", False, "the manifest is damaged"),
    ],
)
def test_damage_is_found(store: ObjectStore, what: str, deep: bool, reason: str) -> None:
    write(store, "ck/ba1", FILES)
    damage(store, what)
    assert verify(store, "ck/ba1", deep=deep).reason == reason


def test_a_manifest_cannot_name_a_file_outside(tmp_path: Path) -> None:
    text = Manifest(files=(FileEntry(name="../evil", size_bytes=0, sha256=""),)).to_json()
    with pytest.raises(DataError, match="no safe object key"):
        Manifest.from_json(text.encode(), where="x")


def test_a_later_format_is_refused() -> None:
    with pytest.raises(DataError, match="unknown manifest format 'genai-folder/2'"):
        Manifest.from_json(b'{"format": "genai-folder/2", "files": [], "metadata": {}}', where="x")


def test_a_folder_is_downloaded_in_place_of_another(store: ObjectStore, tmp_path: Path) -> None:
    manifest = write(store, "ck/ba1", FILES)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "old").touch()
    assert download_folder(store, "ck/ba1", tmp_path / "here") == manifest
    assert (tmp_path / "here" / "weights").read_bytes() == FILES["weights"]
    assert not (tmp_path / "here" / "old").exists()
    assert verify(LocalStore(tmp_path), "here", deep=True).ok


@pytest.mark.parametrize("what", ["changed", "shortened", "missing", "no manifest"])
def test_a_damaged_folder_is_not_downloaded(store: ObjectStore, what: str, tmp_path: Path) -> None:
    write(store, "ck/ba1", FILES)
    damage(store, what)
    with pytest.raises(DataError):
        download_folder(store, "ck/ba1", tmp_path / "here")
    assert not (tmp_path / "here").exists()


class CountingStore(LocalStore):
    """Notes what is downloaded, and breaks off at one name."""

    def __init__(self, root: Path, breaks_at: str | None) -> None:
        super().__init__(root)
        self.breaks_at = breaks_at
        self.downloaded: list[str] = []
        self._lock = threading.Lock()

    def download(self, key: str, path: Path) -> None:
        if key == self.breaks_at:
            raise GenaiError("planted")
        super().download(key, path)
        with self._lock:
            self.downloaded.append(key)


def test_an_interrupted_download_goes_on_where_it_was(tmp_path: Path) -> None:
    files = {f"part{i}": bytes([i]) * 100 for i in range(10)}
    write(open_store(str(tmp_path / "store")), "model", files)
    first = CountingStore(tmp_path / "store", "model/part9")
    with pytest.raises(GenaiError, match="planted"):
        download_folder(first, "model", tmp_path / "here")
    assert not (tmp_path / "here").exists()
    second = CountingStore(tmp_path / "store", None)
    download_folder(second, "model", tmp_path / "here")
    assert sorted(first.downloaded + second.downloaded) == sorted(f"model/{name}" for name in files)
    assert verify(LocalStore(tmp_path), "here", deep=True).ok


def test_a_folder_is_deleted_with_all_its_files(store: ObjectStore) -> None:
    write(store, "ck/ba1", FILES)
    write(store, "ck/ba2", FILES)
    delete_folder(store, "ck/ba1")
    delete_folder(store, "ck/never")
    assert list_folders(store, "ck") == ["ba2"]
    assert verify(store, "ck/ba2", deep=True).ok
    assert keys(store, "ck/ba1") == keys(store, "ck/never") == []


class Bucket:
    """A store in memory, without rename, which breaks off before its n-th change as a killed process would."""

    url = "memory://bucket"

    def __init__(self, objects: dict[str, bytes], changes_left: float = math.inf) -> None:
        self.objects = objects
        self.changes_left = changes_left
        self.uploaded: list[str] = []

    def local_path(self, key: str) -> None:
        return None

    def stat(self, key: str) -> ObjectInfo | None:
        content = self.objects.get(key)
        if content is None:
            return None
        sha256 = hashlib.sha256(content).hexdigest()
        return ObjectInfo(key=key, size_bytes=len(content), modified=0.0, sha256=sha256)

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        return [info for key in sorted(self.objects) if key.startswith(prefix) and (info := self.stat(key))]

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        return self.objects[key][start:end]

    def chunks(self, key: str, chunk_bytes: int = 1) -> Iterator[bytes]:
        yield self.objects[key]

    def write(self, key: str, data: bytes) -> None:
        self._change()
        self.objects[key] = data

    def upload(self, key: str, path: Path, *, sha256: str | None = None) -> None:
        self.write(key, path.read_bytes())
        self.uploaded.append(key)

    def download(self, key: str, path: Path) -> None:
        atomic.write_bytes(path, self.objects[key])

    def delete(self, key: str) -> None:
        self._change()
        self.objects.pop(key, None)

    def copy(self, source_key: str, target_key: str) -> None:
        self.write(target_key, self.objects[source_key])

    def sweep(self, prefix: str = "") -> int:
        return 0

    def _change(self) -> None:
        self.changes_left -= 1
        if self.changes_left < 0:
            raise KeyboardInterrupt


WHOLE = {f"ck/ba1/{name}" for name in (*FILES, MANIFEST)}


@pytest.mark.parametrize("changes", range(7))
def test_in_a_bucket_a_cut_write_is_no_folder_and_is_taken_up_again(changes: int) -> None:
    objects: dict[str, bytes] = {}
    write(Bucket(objects), "ck/ba1", {"weights": b"old", "gone": b"old"})
    cut, again = Bucket(objects, changes), Bucket(objects)
    with pytest.raises(KeyboardInterrupt):
        write(cut, "ck/ba1", FILES)
    assert list_folders(again, "ck") == ([] if 2 <= changes <= 5 else ["ba1"])
    assert list_leftovers(again, "ck") == ([] if changes == 0 else ["ba1"])
    if changes < 2:
        assert objects["ck/ba1/weights"] == b"old"
    if changes == 6:
        assert remove_leftovers(again, "ck") == ["ba1"]
        assert set(objects) == WHOLE
    write(again, "ck/ba1", FILES)
    assert set(objects) == WHOLE
    assert verify(again, "ck/ba1", deep=True).ok
    assert sorted(cut.uploaded + again.uploaded) == ["ck/ba1/sub/state.json", "ck/ba1/weights"]


@pytest.mark.parametrize("changes", range(5))
def test_in_a_bucket_a_cut_deletion_is_no_folder_and_is_finished_later(changes: int) -> None:
    objects: dict[str, bytes] = {"ck/notes/of somebody else": b""}
    write(Bucket(objects), "ck/ba1", FILES)
    write(Bucket(objects), "ck/ba2", FILES)
    before = set(objects)
    with pytest.raises(KeyboardInterrupt):
        delete_folder(Bucket(objects, changes), "ck/ba1")
    store = Bucket(objects)
    assert list_folders(store, "ck") == (["ba1", "ba2"] if changes < 2 else ["ba2"])
    assert remove_leftovers(store, "ck") == ([] if changes == 0 else ["ba1"])
    assert set(objects) == (before if changes < 2 else before - WHOLE)


CRASH_AT_EVERY_CALL = """
import itertools, json, os, shutil, signal, sys
from pathlib import Path
from genai.storage import open_store
from genai.storage.manifest import FolderWriter, delete_folder, list_folders, remove_leftovers, verify

store = open_store(sys.argv[1])

def write(content):
    with FolderWriter(store, "ba1") as writer:
        (writer.path / "weights").write_bytes(content * 1000)
        (writer.path / "sub").mkdir()
        (writer.path / "sub" / "state").write_bytes(content)
        writer.commit()

def die_at(number):
    calls = itertools.count()
    for module, name in ((os, "fsync"), (os, "replace"), (shutil, "rmtree")):
        def counted(*args, real=getattr(module, name), **kwargs):
            if next(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)
        setattr(module, name, counted)

def crashed(number, action):
    child = os.fork()
    if child == 0:
        die_at(number)
        action()
        os._exit(0)
    return os.waitpid(child, 0)[1] != 0

def outcome(number, action):
    write(b"1")
    if not crashed(number, action):
        return None
    state = verify(store, "ba1", deep=True).reason
    content = store.read("ba1/weights", 0, 1).decode() if not state else state
    left = len(remove_leftovers(store))
    return content, left, sorted(os.listdir(sys.argv[1])) == ["ba1"] * bool(list_folders(store))

results = {}
for kind, action in (("write", lambda: write(b"2")), ("delete", lambda: delete_folder(store, "ba1"))):
    results[kind] = list(itertools.takewhile(bool, (outcome(number, action) for number in itertools.count())))
print(json.dumps(results))
"""


def test_on_a_disk_no_crash_makes_half_a_folder(
    tmp_path: Path, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    with start_python(CRASH_AT_EVERY_CALL, tmp_path) as process:
        output, _ = process.communicate(timeout=60)
    results = json.loads(output)
    absent = "there is no manifest.json"
    states = [state for state, _, _ in results["write"]]
    assert all(clean for _, _, clean in results["write"] + results["delete"])
    assert len(states) >= 10
    assert states == sorted(states, key=["1", absent, "2"].index)
    assert states.count(absent) <= 2
    assert {states[0], states[-1]} == {"1", "2"}
    assert [state for state, _, _ in results["delete"]] == ["1", absent, absent]
    assert all(left > 0 for state, left, _ in results["write"] if state == "1")


def test_a_full_disk_names_the_folder_and_leaves_nothing(
    tmp_path: Path, file_limit: Callable[[int], AbstractContextManager[None]]
) -> None:
    store = open_store(str(tmp_path))
    write(store, "ba1", FILES)
    with file_limit(4096), pytest.raises(GenaiError, match=f"cannot write {tmp_path}/ba2: file too large"):
        write(store, "ba2", {"weights": bytes(10_000)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ba1"]


def test_a_full_disk_is_told_from_the_text_of_a_library_in_rust(tmp_path: Path) -> None:
    error = RuntimeError('I/O error: Os { code: 28, message: "No space left on device" } (os error 28)')
    with (
        pytest.raises(GenaiError, match=f"cannot write {tmp_path}/ba1: no space left"),
        FolderWriter(open_store(str(tmp_path)), "ba1"),
    ):
        raise error
