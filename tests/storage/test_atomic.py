from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import time
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import pytest

from genai.errors import DataError, GenaiError, UsageError
from genai.storage import atomic

HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"


def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_are_written_in_folders_that_are_made(tmp_path: Path) -> None:
    atomic.write_bytes(tmp_path / "a/b/bytes", b"\0\1")
    atomic.write_text(tmp_path / "text", "línea\n")
    atomic.write_json(tmp_path / "json", {"ü": [1, None]})
    assert (tmp_path / "a/b/bytes").read_bytes() == b"\0\1"
    assert (tmp_path / "text").read_bytes() == "línea\n".encode()
    assert json.loads((tmp_path / "json").read_bytes()) == {"ü": [1, None]}
    assert names(tmp_path) == ["a", "json", "text"]


def test_a_new_file_has_ordinary_rights(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        atomic.write_bytes(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_json_without_a_word_for_it_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    atomic.write_json(tmp_path / "x", 1)
    with pytest.raises(ValueError, match="nan"):
        atomic.write_json(tmp_path / "x", float("nan"))
    assert (tmp_path / "x").read_text() == "1\n"


def test_a_write_that_raises_leaves_the_old_content_and_no_other_name(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="planted"), atomic.atomic_file(path) as stream:
        stream.write(b"new")
        raise RuntimeError("planted")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_content_is_on_the_disk_before_its_name_and_the_name_before_we_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        calls.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def noted_replace(source: Path, target: Path) -> None:
        calls.append(("replace", Path(target).name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    atomic.write_bytes(tmp_path / "file", b"x")
    (temporary,) = [name for kind, name in calls if atomic.is_temporary(name)]
    assert calls == [("fsync", temporary), ("replace", "file"), ("fsync", tmp_path.name)]


def test_a_file_that_grows_too_large_is_one_line_and_leaves_nothing(
    tmp_path: Path, file_limit: Callable[[int], AbstractContextManager[None]]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with file_limit(4096), pytest.raises(GenaiError) as caught:
        atomic.write_bytes(path, bytes(5000))
    assert f"cannot write {path}: file too large (5000 bytes needed, " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_full_disk_is_one_line_and_leaves_nothing(small_disk: Path) -> None:
    with pytest.raises(GenaiError, match=r"no space left on device \(1000000 bytes needed, \d{6} bytes free\)"):
        atomic.write_bytes(small_disk / "file", bytes(1_000_000))
    with (
        pytest.raises(GenaiError, match=r"cannot write .*folder: no space left"),
        atomic.atomic_directory(small_disk / "folder") as scratch,
    ):
        (scratch / "large").write_bytes(bytes(1_000_000))
    assert names(small_disk) == []
    atomic.write_bytes(small_disk / "file", bytes(100_000))


def test_another_error_of_the_disk_is_not_taken_for_a_full_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        atomic.write_bytes(tmp_path / "file/below", b"")


def test_a_folder_appears_with_all_its_files(tmp_path: Path) -> None:
    target = tmp_path / "a" / "folder"
    with atomic.atomic_directory(target) as scratch:
        (scratch / "sub").mkdir()
        (scratch / "sub" / "file").write_text("x")
        assert not target.exists()
    assert (target / "sub" / "file").read_text() == "x"
    assert names(target.parent) == ["folder"]


def test_a_folder_whose_writer_raises_never_appears(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="planted"), atomic.atomic_directory(tmp_path / "folder") as scratch:
        (scratch / "file").touch()
        raise RuntimeError("planted")
    assert names(tmp_path) == []


@pytest.mark.parametrize(("existing", "expected"), [("keep", "old"), ("replace", "new")])
def test_what_happens_to_a_folder_that_is_there(
    existing: Literal["keep", "replace"], expected: str, tmp_path: Path
) -> None:
    for content in ("old", "new"):
        with atomic.atomic_directory(tmp_path / "folder", existing=existing) as scratch:
            (scratch / content).touch()
    assert names(tmp_path / "folder") == [expected]
    assert names(tmp_path) == ["folder"]


def test_a_folder_is_not_overwritten_unasked_however_late_it_comes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="already exists"), atomic.atomic_directory(tmp_path / "folder"):
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "of somebody else").touch()
    assert names(tmp_path / "folder") == ["of somebody else"]
    with pytest.raises(DataError, match="already exists"), atomic.atomic_directory(tmp_path / "folder"):
        pytest.fail("the block must not be entered")


def test_a_folder_is_renamed_before_it_is_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    monkeypatch.setattr("shutil.rmtree", lambda path: None)
    atomic.remove_directory(tmp_path / "folder")
    (left,) = tmp_path.iterdir()
    assert atomic.is_temporary(left.name)
    atomic.remove_directory(tmp_path / "never there")


def test_only_what_dead_processes_left_is_swept(tmp_path: Path) -> None:
    dead = dead_pid()
    ours = atomic.temporary_sibling(tmp_path / "mine").name
    pid_taken_by_another = f".f.{HOST}-{os.getpid()}-1-00000000.tmp"
    old_of_another_host = ".f.00000001-1-1-00000000.tmp"
    gone = [f".f.{HOST}-{dead}-5-00000000.tmp", f".folder.{HOST}-{dead}-0-00000000.tmp"]
    gone += [pid_taken_by_another, old_of_another_host]
    stay = [ours, "file", ".hidden.tmp", ".f.00000001-1-1-11111111.tmp", f"f.{HOST}-{dead}-5-00000000.tmp"]
    for name in [*gone, *stay]:
        if "folder" in name:
            (tmp_path / name).mkdir()
            (tmp_path / name / "content").touch()
        else:
            (tmp_path / name).touch()
    long_ago = time.time() - atomic.FOREIGN_TEMPORARY_AGE_S - 60
    os.utime(tmp_path / old_of_another_host, (long_ago, long_ago))
    assert [path.name for path in atomic.stale(tmp_path)] == sorted(gone)
    assert [path.name for path in atomic.sweep(tmp_path)] == sorted(gone)
    assert names(tmp_path) == sorted(stay)


def test_a_long_name_still_has_a_temporary_one(tmp_path: Path) -> None:
    atomic.write_bytes(tmp_path / ("ü" * 120), b"x")
    assert names(tmp_path) == ["ü" * 120]


@pytest.mark.parametrize("name", ["a", "_x", "faq-lora", "v1.2+cu130", "user@host", "k=v", "a" * 128, "0..1"])
def test_a_safe_name_is_itself(name: str) -> None:
    assert atomic.safe_name(name) == name


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("", None),
        (".", None),
        ("..", None),
        ("../../etc/passwd", "'etc-passwd'"),
        ("/abs", "'abs'"),
        (".hidden", "'hidden'"),
        ("-rf", "'rf'"),
        ("a/b", "'a-b'"),
        ("a\\b", "'a-b'"),
        ("a b\n", "'a-b'"),
        ("nul\0byte", "'nul-byte'"),
        ("naïve", "'na-ve'"),
        ("a" * 129, f"'{'a' * 128}'"),
    ],
)
def test_an_unsafe_name_is_refused_with_the_nearest_safe_one(name: str, suggested: str | None) -> None:
    with pytest.raises(UsageError, match="cannot be used as a run name") as caught:
        atomic.safe_name(name, kind="run name")
    assert caught.value.fix is not None
    assert caught.value.fix.endswith(f"e.g. {suggested}" if suggested else "(at most 128)")


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("GENAI_CACHE")
    assert atomic.cache_dir() == tmp_path / ".cache/genai"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert atomic.cache_dir() == tmp_path / "xdg/genai"
    monkeypatch.setenv("GENAI_CACHE", "~/mine")
    assert atomic.cache_dir() == tmp_path / "mine"
    assert (tmp_path / "mine" / atomic.CACHE_TAG).read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55")


def test_a_folder_with_other_things_is_not_tagged_as_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "thesis.tex").touch()
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path))
    assert atomic.cache_dir() == tmp_path
    assert names(tmp_path) == ["thesis.tex"]


def test_a_cache_that_cannot_be_made_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(GenaiError, match=r"cannot be made.*set GENAI_CACHE"):
        atomic.cache_dir()


def test_free_bytes_of_a_path_that_does_not_exist_yet(tmp_path: Path) -> None:
    assert atomic.free_bytes(tmp_path / "not" / "yet") == pytest.approx(atomic.free_bytes(tmp_path), rel=0.1)


WRITE_FOREVER = """
import sys, itertools
from pathlib import Path
from genai.storage import atomic
path = Path(sys.argv[1])
for i in itertools.count():
    atomic.write_bytes(path / "file", bytes([i % 256]) * 300_000)
    with atomic.atomic_directory(path / "folder", existing="replace") as scratch:
        for name in "ab":
            (scratch / name).write_bytes(bytes([i % 256]) * 100_000)
    if i == 0:
        print("ready", flush=True)
"""


def test_a_reader_never_sees_half_of_what_a_killed_writer_wrote(
    tmp_path: Path, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    seeded = random.Random(7)
    for _ in range(6):
        with start_python(WRITE_FOREVER, tmp_path) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            end = time.monotonic() + seeded.uniform(0.0, 0.05)
            while time.monotonic() < end:
                _assert_whole((tmp_path / "file").read_bytes(), 300_000)
        _assert_whole((tmp_path / "file").read_bytes(), 300_000)
        if (tmp_path / "folder").exists():
            _assert_whole(b"".join((tmp_path / "folder" / name).read_bytes() for name in "ab"), 200_000)
        atomic.sweep(tmp_path)
        assert set(names(tmp_path)) <= {"file", "folder"}


def _assert_whole(content: bytes, size_bytes: int) -> None:
    assert len(content) == size_bytes
    assert content == content[:1] * size_bytes
