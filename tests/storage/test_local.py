from __future__ import annotations

from pathlib import Path

import pytest

from genai.errors import DataError
from genai.storage import atomic
from genai.storage.local import LocalStore, open_local, path_of


def test_an_object_is_a_file_below_the_root(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "root")
    assert store.list() == []
    store.write("a/b", b"x")
    assert store.local_path("a/b") == tmp_path / "root/a/b"
    assert store.local_path("") == tmp_path / "root"
    assert (tmp_path / "root/a/b").read_bytes() == b"x"


def test_half_written_files_and_folders_are_no_objects_and_are_swept(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.write("a/b", b"x")
    dead = atomic.temporary_sibling(tmp_path / "a" / "c")
    dead = dead.with_name(dead.name.replace(dead.name.split("-")[1], "4194305"))  # above the largest pid of Linux
    dead.mkdir()
    (dead / "file").touch()
    assert [info.key for info in store.list()] == ["a/b"]
    assert store.sweep() == 1
    assert not dead.exists()


def test_an_upload_that_is_not_what_was_hashed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"changed meanwhile")
    store = LocalStore(tmp_path / "store")
    with pytest.raises(DataError, match="changed while it was copied"):
        store.upload("key", tmp_path / "source", sha256="0" * 64)
    assert store.list() == []


def test_a_folder_is_no_object(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.write("a/b", b"x")
    assert store.stat("a") is None
    for key in ("a", "a/b/c"):
        with pytest.raises(DataError, match="no object"):
            store.read(key)
        with pytest.raises(DataError, match="no object"):
            store.download(key, tmp_path / "target")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///data/a%20b", "/data/a b"),
        ("file://localhost/data", "/data"),
        ("/data/100%25", "/data/100%25"),
        ("relative/x", "relative/x"),
        ("~/x", "/home/me/x"),
    ],
)
def test_paths_and_file_urls(url: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert path_of(url) == Path(path)
    assert open_local(url).url == str(Path(path).absolute())
