from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from genai.errors import DataError, GenaiError, UsageError
from genai.index.sources.document_files import Folder

_LONG_AGO = 1_600_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    for name in ("a.md", "b/c.txt", "b/d/e.PDF", ".hidden.md", ".git/f.md", "g.png", "~$h.docx"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def _keys(url: str | Path, include: list[str] | None = None, exclude: list[str] | None = None) -> list[str]:
    return [file.key for file in Folder(str(url), include or [], exclude or []).find()]


def test_all_documents_below_a_folder(folder: Path) -> None:
    assert _keys(folder) == ["a.md", "b/c.txt", "b/d/e.PDF"]
    assert _keys(folder.as_uri()) == ["a.md", "b/c.txt", "b/d/e.PDF"]
    assert _keys(folder, include=["*.txt", "b/d/**"]) == ["b/c.txt", "b/d/e.PDF"]
    assert _keys(folder, exclude=["b/**"]) == ["a.md"]


def test_one_file_and_patterns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _keys(folder / "b" / "c.txt") == ["c.txt"]
    assert _keys(f"{folder}/*.md") == ["a.md"]
    assert _keys(f"{folder}/**/*") == ["a.md", "b/c.txt", "b/d/e.PDF"]
    monkeypatch.chdir(folder)
    (found,) = Folder("b/*.txt", [], []).find()
    assert (found.key, found.name) == ("c.txt", "b/c.txt")
    (folder / "[x]").mkdir()
    (folder / "[x]" / "i.md").write_text("i")
    assert _keys(folder / "[x]") == ["i.md"]


def test_what_is_not_there_is_no_empty_folder(folder: Path) -> None:
    for missing in (folder / "nowhere", folder / "gone.md", folder / "nowhere" / "*.md"):
        with pytest.raises(DataError, match="there is no such"):
            _keys(missing)
    (folder / "empty").mkdir()
    assert _keys(folder / "empty") == []
    with pytest.raises(UsageError, match="no kind of document"):
        _keys(folder / "g.png")


def test_a_folder_that_cannot_be_listed_is_no_empty_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "d":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(GenaiError, match=r"cannot be listed: .*Permission denied"):
        _keys(folder)


def test_a_stamp_changes_with_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "a.md"

    def found() -> tuple[str, str]:
        file = next(file for file in Folder(str(folder), [], []).find() if file.key == "a.md")
        return file.stamp, file.version()

    assert found()[0] == ""  # too young: it may change once more without a new time
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    stamp, version = found()
    assert stamp and found() == (stamp, version)
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    touched = found()
    assert touched[0] != stamp and touched[1] == version
    path.write_text("A.MD")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as large and as old as before
    assert found()[0] != stamp and found()[1] != version


def test_links(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "secret.md").write_text("secret")
    (tmp_path / "docs2").mkdir()
    (tmp_path / "docs2" / "i.md").write_text("sibling")
    (folder / "inside.md").symlink_to("a.md")
    (folder / "outside.md").symlink_to("../secret.md")
    (folder / "sibling.md").symlink_to("../docs2/i.md")
    (folder / "dead.md").symlink_to("nothing.md")
    (folder / "loop.md").symlink_to("loop.md")
    (folder / "folder").symlink_to(tmp_path)
    source = Folder(str(folder), ["*.md"], [])
    files = {file.key: file for file in source.find()}
    assert sorted(files) == ["a.md", "dead.md", "inside.md", "loop.md", "outside.md", "sibling.md"]
    assert files["inside.md"].read(100) == b"a.md"
    for name, reason in (
        ("outside.md", "leads out of the folder"),
        ("sibling.md", "leads out of the folder"),
        ("dead.md", "leads nowhere"),
        ("loop.md", "leads nowhere"),
    ):
        assert files[name].version().startswith("unreadable-")
        with pytest.raises(DataError, match=reason):
            files[name].read(100)
    source.find()
    assert len([record for record in caplog.records if "is not followed" in record.message]) == 1
    (tmp_path / "link").symlink_to(folder)
    assert "a.md" in _keys(tmp_path / "link")


def test_pipes_and_sockets_are_no_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "pipe.md")
    monkeypatch.chdir(folder)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.md")
        files = {file.key: file for file in Folder(str(folder), [], []).find()}
        for name in ("pipe.md", "socket.md"):
            with pytest.raises(DataError, match="no plain file"):
                files[name].read(100)


def test_files_that_vanish_or_grow(folder: Path) -> None:
    files = {file.key: file for file in Folder(str(folder), [], []).find()}
    (folder / "a.md").unlink()
    with pytest.raises(DataError, match="the file is gone"):
        files["a.md"].read(100)
    with pytest.raises(DataError, match="7 bytes, more than the 3 that are allowed"):
        files["b/c.txt"].read(3)
    assert files["b/c.txt"].read(7) == b"b/c.txt"


def test_names_are_composed_and_stay_apart(tmp_path: Path) -> None:
    composed, decomposed = "\u00e9.md", "e\u0301.md"
    (tmp_path / decomposed).write_text("alone")
    assert _keys(tmp_path) == [composed]
    (tmp_path / composed).write_text("both")
    files = {file.key: file.read(10) for file in Folder(str(tmp_path), [], []).find()}
    assert files == {composed: b"both", "e\\u0301.md": b"alone"}
    (tmp_path / os.fsdecode(b"\xff.md")).write_text("bytes")
    assert "\\xff.md" in _keys(tmp_path)
