"""Published states of an engine as folders on this machine's disk: `<folder>/<generation>/<token>/`.

A state is written under a temporary name, brought to the disk and renamed; it never changes afterwards. Readers share
the lock of the state's folder for as long as they have it open, and who removes a state holds that lock alone: of all
this a process that is killed leaves nothing but a temporary folder, which the next sweep removes.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from genai.errors import DataError
from genai.log import get_logger
from genai.storage import atomic
from genai.storage.locks import lock_file, release, try_lock

FILES = "files.json"
"""In each state: path -> size of its files, by which a damaged state is known before it is opened."""
_FSYNC_THREADS = 16
_log = get_logger(__name__)


class HeldState:
    """A published state that nobody removes until `close`."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock: int | None = lock

    def close(self) -> None:
        """Let go of it; a second call does nothing."""
        if self._lock is not None:
            release(self._lock)
            self._lock = None


class States:
    """The states of one generation.

    Args:
        folder: the engine's folder, which all generations of the index share.
        generation: name of the generation.
        index: name of the index, for messages.
    """

    def __init__(self, folder: Path, generation: str, *, index: str) -> None:
        self._folder = folder / atomic.safe_name(generation, kind="generation")
        self._index = index

    def begin(self) -> Path:
        """An empty folder for a state that is being written."""
        self._folder.mkdir(parents=True, exist_ok=True)
        scratch = atomic.temporary_sibling(self._folder / "state")
        scratch.mkdir()
        return scratch

    def publish(self, scratch: Path, *, synced: frozenset[Path] = frozenset()) -> str:
        """Make `scratch` a state.

        Args:
            scratch: what `begin` gave, all files in it closed.
            synced: files below it that are on the disk already, since they belong to another state too.

        Returns:
            its token, which no state of this generation had before.
        """
        files = sorted(path for path in scratch.rglob("*") if path.is_file())
        sizes = {path.relative_to(scratch).as_posix(): path.stat().st_size for path in files}
        (scratch / FILES).write_text(json.dumps(sizes), encoding="utf-8")
        folders = [scratch, *(path for path in scratch.rglob("*") if path.is_dir())]
        with ThreadPoolExecutor(_FSYNC_THREADS) as pool:  # the disk brings down together what is asked for together
            list(pool.map(atomic.fsync_file, {*files, scratch / FILES} - synced))
            list(pool.map(atomic.fsync_folder, folders))
        token = f"{self._newest() + 1:06d}-{secrets.token_hex(4)}"
        os.replace(scratch, self._folder / token)
        atomic.fsync_folder(self._folder)
        return token

    def hold(self, token: str) -> HeldState:
        """Keep a state from being removed.

        Raises:
            DataError: it is not there, or a file of it is missing or has another size.
        """
        path = self._folder / atomic.safe_name(token, kind="state")
        lock = try_lock(path, exclusive=False) if path.is_dir() else None
        if lock is None:
            raise self._gone(path)
        held = HeldState(path, lock)
        try:
            self._check(path)
        except BaseException:
            held.close()
            raise
        return held

    def damaged(self, path: Path, reason: str) -> DataError:
        """The error to raise about a state that cannot be read."""
        return DataError(
            f"this state of the index is damaged: {reason}",
            where=str(path),
            fix=f"`genai index rebuild {self._index}` makes it anew from the ledger, without embedding anything",
        )

    def _gone(self, path: Path) -> DataError:
        return DataError(
            "this state of the index is not there (any more)",
            where=str(path),
            fix=f"`genai index rebuild {self._index}` makes it anew from the ledger, without embedding anything",
        )

    def _check(self, path: Path) -> None:
        if not path.is_dir():
            raise self._gone(path)
        try:
            sizes = json.loads((path / FILES).read_text(encoding="utf-8"))
            for name, size_bytes in sizes.items():
                found = os.stat(path / name).st_size
                if found != size_bytes:
                    raise self.damaged(path, f"{name} has {found} bytes instead of {size_bytes}")
        except FileNotFoundError as error:
            raise self.damaged(path, f"{error.filename} is missing") from None
        except (ValueError, AttributeError):
            raise self.damaged(path, f"{FILES} cannot be read") from None

    def _newest(self) -> int:
        numbers = (name.partition("-")[0] for name in os.listdir(self._folder) if not name.startswith("."))
        return max((int(number) for number in numbers if number.isdecimal()), default=0)


def sweep_states(folder: Path, tokens: Mapping[str, str | None]) -> None:
    """Remove the states below the engine's folder that nobody needs.

    Args:
        folder: the engine's folder.
        tokens: generation -> the token of the state that it needs; others go, unless somebody has them open.
    """
    if not folder.is_dir():
        return
    for generation in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        atomic.sweep(generation)
        wanted = tokens.get(generation.name)
        for entry in sorted(generation.iterdir()):
            if entry.is_dir() and not atomic.is_temporary(entry.name) and entry.name != wanted:
                _remove(entry)
        _remove_stray_locks(generation)
        if generation.name not in tokens and not any(generation.iterdir()):
            generation.rmdir()


def copy_state(source: Path, target: Path, *, linked: frozenset[str] = frozenset()) -> frozenset[Path]:
    """Copy the files of a state, those on its list and no others.

    Args:
        source: a state, held; others may open it meanwhile.
        target: an empty folder on the same disk.
        linked: names of files that are never written again: both states share them where the disk allows that.

    Returns:
        The paths below `target` that are shared.
    """
    shared = set()
    for name in json.loads((source / FILES).read_text(encoding="utf-8")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if Path(name).name in linked and _link(source / name, target / name):
            shared.add(target / name)
        else:
            _copy_file(source / name, target / name)
    return frozenset(shared)


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


def _copy_file(source: Path, target: Path) -> None:
    """Copy what was written of a file inside of the kernel; what was never written takes no room in the copy either."""
    with open(source, "rb") as reading, open(target, "xb") as writing:
        size_bytes = os.fstat(reading.fileno()).st_size
        os.ftruncate(writing.fileno(), size_bytes)
        start = 0
        while start < size_bytes:
            try:
                start = os.lseek(reading.fileno(), start, os.SEEK_DATA)
            except OSError:  # nothing but a hole is left
                break
            end = os.lseek(reading.fileno(), start, os.SEEK_HOLE)
            start = _copy_range(reading.fileno(), writing.fileno(), start, end)


def _copy_range(reading: int, writing: int, start: int, end: int) -> int:
    while start < end:
        copied = os.copy_file_range(reading, writing, end - start, start, start)
        if copied == 0:
            raise DataError("a file of the index became shorter while it was copied")
        start += copied
    return start


def _remove(state: Path) -> None:
    lock = try_lock(state, exclusive=True)
    if lock is None:
        _log.debug("%s stays: it is open", state)
        return
    try:
        atomic.remove_directory(state)
        lock_file(state).unlink(missing_ok=True)
    finally:
        release(lock)


def _remove_stray_locks(generation: Path) -> None:
    """Remove the lock files of states that are gone, which readers that came too late have left."""
    for entry in generation.glob(".*.lock"):
        state = generation / entry.name.removeprefix(".").removesuffix(".lock")
        if state.exists() or not state.name[:1].isdecimal():
            continue
        lock = try_lock(state, exclusive=True)
        if lock is not None:
            lock_file(state).unlink(missing_ok=True)
            release(lock)
