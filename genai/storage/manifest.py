"""Folders that exist only as a whole, on a disk and in a bucket: what checkpoints and exported models are written as.

A folder is committed by its `manifest.json`, which names every file with its size and SHA-256. On a disk the folder is
written beside its final place and renamed. In a bucket, where nothing can be renamed, the order is:

    to write    put .incomplete.json, put the files, put manifest.json, remove .incomplete.json
    to delete   put .incomplete.json, remove manifest.json, remove the files, remove .incomplete.json

so that whatever is cut off has no manifest and is known to be a leftover of ours. One process at a time may write
below a prefix.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from genai.errors import DataError
from genai.storage import atomic
from genai.storage.base import ObjectInfo, ObjectStore, check_key
from genai.storage.checksums import sha256_of, sha256_of_chunks
from genai.storage.local import LocalStore
from genai.storage.locks import exclusive
from genai.storage.parallel import for_each

MANIFEST = "manifest.json"
INCOMPLETE = ".incomplete.json"
_FORMAT = "genai-folder/1"
_WAIT_FOR_OTHERS_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One file of a folder."""

    name: str
    """Path below the folder."""
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a folder holds."""

    files: tuple[FileEntry, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What the writer wanted to say about the folder; JSON."""

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        files = [asdict(entry) for entry in self.files]
        return json.dumps({"format": _FORMAT, "metadata": self.metadata, "files": files}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: bytes, *, where: str) -> Manifest:
        """Read `manifest.json`.

        Raises:
            DataError: it is damaged, or of another program.
        """
        try:
            values = json.loads(text)
            if values["format"] != _FORMAT:
                raise DataError(f"unknown manifest format {values['format']!r}", where=where)
            entries = tuple(FileEntry(**entry) for entry in values["files"])
            for entry in entries:
                check_key(entry.name)
            return cls(files=entries, metadata=values["metadata"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError("the manifest is damaged", where=where) from error


@dataclass(frozen=True)
class FolderCheck:
    """The result of `verify`."""

    problems: tuple[str, ...]
    """One sentence for each file that is missing, or not as it was written."""

    @property
    def ok(self) -> bool:
        """Whether the folder is as it was written."""
        return not self.problems

    @property
    def reason(self) -> str:
        """All problems on one line."""
        return "; ".join(self.problems)


class FolderWriter:
    """Writes a folder so that it appears whole or not at all, in place of one that was there.

    Write files below `path`, then call `commit`; leaving the `with` block without it leaves nothing.

    Example:
        >>> with FolderWriter(store, "checkpoints/ba100") as writer:
        ...     save_file(tensors, writer.path / "weights.safetensors")
        ...     writer.commit()

    Args:
        store: where.
        prefix: the folder's key.
        metadata: kept in the manifest.
    """

    def __init__(self, store: ObjectStore, prefix: str, *, metadata: Mapping[str, Any] | None = None) -> None:
        self._store = store
        self._prefix = check_key(prefix)
        self._metadata = dict(metadata or {})
        self._final = store.local_path(prefix)
        place = self._final or atomic.cache_dir() / "uploads" / Path(prefix).name
        self.path = atomic.temporary_sibling(place)

    def __enter__(self) -> FolderWriter:
        atomic.sweep(self.path.parent)
        self.path.mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.path.exists():
            shutil.rmtree(self.path)
        if isinstance(error, Exception):
            with atomic.explain_full_disk(self._final or self.path):
                raise error

    def commit(self) -> Manifest:
        """Make the folder appear: every file is hashed and brought to the disk, the manifest comes last.

        Raises:
            ValueError: there are no files, or one is called like the manifest.
            GenaiError: the disk is full, or the store does not take it.
        """
        files = {
            path.relative_to(self.path).as_posix(): path for path in sorted(self.path.rglob("*")) if path.is_file()
        }
        if self._final is None:
            return _publish(self._store, self._prefix, files, self._metadata)
        manifest = _describe(files, self._metadata)
        atomic.write_text(self.path / MANIFEST, manifest.to_json())
        for folder, _, _ in os.walk(self.path):
            atomic.fsync_folder(Path(folder))
        atomic.swap_directory(self.path, self._final)
        return manifest


def write_folder(
    store: ObjectStore, prefix: str, files: Mapping[str, Path], *, metadata: Mapping[str, Any] | None = None
) -> Manifest:
    """Write a folder from files that lie elsewhere; see `FolderWriter`.

    Args:
        store: where.
        prefix: the folder's key.
        files: path below the folder to the file.
        metadata: kept in the manifest.
    """
    if store.local_path(prefix) is None:
        return _publish(store, prefix, files, dict(metadata or {}))
    with FolderWriter(store, prefix, metadata=metadata) as writer:
        scratch = LocalStore(writer.path)
        for name, path in files.items():
            scratch.upload(name, path)
        return writer.commit()


def read_manifest(store: ObjectStore, prefix: str) -> Manifest | None:
    """What the folder holds; None when there is no such folder, or only a part of it.

    Raises:
        DataError: the manifest is damaged.
    """
    key = f"{prefix}/{MANIFEST}"
    return Manifest.from_json(store.read(key), where=f"{store.url}/{key}") if store.stat(key) else None


def verify(store: ObjectStore, prefix: str, *, deep: bool = False) -> FolderCheck:
    """Compare a folder with its manifest.

    Args:
        store: where.
        prefix: the folder's key.
        deep: read every byte and compare SHA-256, not only sizes.
    """
    try:
        manifest = read_manifest(store, prefix)
    except DataError as error:
        return FolderCheck((error.message,))
    if manifest is None:
        return FolderCheck((f"there is no {MANIFEST}",))
    there = {info.key: info for info in store.list(f"{prefix}/")}
    checked = (_fault(store, f"{prefix}/{entry.name}", entry, there, deep) for entry in manifest.files)
    return FolderCheck(tuple(fault for fault in checked if fault))


def download_folder(store: ObjectStore, prefix: str, to: Path) -> Manifest:
    """Bring a committed folder to the local folder `to`, in place of what was there, every file verified.

    Files that an interrupted try brought are not brought again.

    Raises:
        DataError: there is no such folder, or a file is not what the manifest says.
    """
    manifest = read_manifest(store, prefix)
    if manifest is None:
        raise DataError(f"there is no complete folder {prefix!r} in {store.url}")
    with exclusive(to, timeout_s=_WAIT_FOR_OTHERS_S):
        partial = to.with_name(f".{to.name}.partial")

        def bring(entry: FileEntry) -> None:
            target = partial / entry.name
            if target.is_file() and sha256_of(target) == entry.sha256:
                return
            store.download(f"{prefix}/{entry.name}", target)
            if sha256_of(target) != entry.sha256:
                raise DataError(f"{entry.name} is not what the manifest says", where=f"{store.url}/{prefix}")

        for_each(bring, manifest.files, description=f"downloading {prefix}", size=lambda entry: entry.size_bytes)
        atomic.write_text(partial / MANIFEST, manifest.to_json())
        atomic.swap_directory(partial, to)
    return manifest


def list_folders(store: ObjectStore, prefix: str = "") -> list[str]:
    """Names of the committed folders directly below `prefix`, sorted."""
    base = f"{prefix}/" if prefix else ""
    below = (info.key.removeprefix(base).split("/") for info in store.list(base))
    return sorted(parts[0] for parts in below if len(parts) == 2 and parts[1] == MANIFEST)


def delete_folder(store: ObjectStore, prefix: str) -> None:
    """Remove a folder; cut off in the middle, what remains has no manifest. Nothing happens when there is none."""
    folder = store.local_path(prefix)
    if folder is not None:
        return atomic.remove_directory(folder)
    keys = [info.key for info in store.list(f"{prefix}/")]
    if keys:
        store.write(f"{prefix}/{INCOMPLETE}", b"{}\n")
        store.delete(f"{prefix}/{MANIFEST}")
        _delete_rest(store, prefix, keys)


def list_leftovers(store: ObjectStore, prefix: str = "") -> list[str]:
    """Names of what interrupted writes and deletions left directly below `prefix`."""
    folder = store.local_path(prefix)
    if folder is not None:
        return [path.name for path in atomic.stale(folder)]
    return sorted(_incomplete(store, prefix))


def remove_leftovers(store: ObjectStore, prefix: str = "") -> list[str]:
    """Remove what `list_leftovers` names, and return it. The caller must be the only writer below `prefix`."""
    names = list_leftovers(store, prefix)
    base = f"{prefix}/" if prefix else ""
    for name, keys in _incomplete(store, prefix).items():
        _delete_rest(store, base + name, keys)
    store.sweep(base)
    return names


def _describe(files: Mapping[str, Path], metadata: Mapping[str, Any]) -> Manifest:
    """Hash each file while the disk takes it."""
    if not files:
        raise ValueError("a folder needs at least one file")
    if taken := {MANIFEST, INCOMPLETE} & set(files):
        raise ValueError(f"the name {taken.pop()} is taken")
    entries = []
    with ThreadPoolExecutor(1) as disk:
        for name, path in files.items():
            synced = disk.submit(atomic.fsync_file, path)
            entries.append(FileEntry(name=name, size_bytes=path.stat().st_size, sha256=sha256_of(path)))
            synced.result()
    return Manifest(files=tuple(entries), metadata=metadata)


def _publish(store: ObjectStore, prefix: str, files: Mapping[str, Path], metadata: Mapping[str, Any]) -> Manifest:
    """Write a folder where nothing can be renamed; files that an interrupted try left there are not sent again."""
    manifest = _describe(files, metadata)
    store.write(f"{prefix}/{INCOMPLETE}", b"{}\n")
    store.delete(f"{prefix}/{MANIFEST}")
    kept = {f"{prefix}/{name}" for name in (*files, INCOMPLETE)}
    for info in store.list(f"{prefix}/"):
        if info.key not in kept:
            store.delete(info.key)

    def send(entry: FileEntry) -> None:
        key = f"{prefix}/{check_key(entry.name)}"
        there = store.stat(key)
        if there is None or (there.sha256, there.size_bytes) != (entry.sha256, entry.size_bytes):
            store.upload(key, files[entry.name], sha256=entry.sha256)

    for_each(send, manifest.files, description=f"uploading {prefix}", size=lambda entry: entry.size_bytes)
    store.write(f"{prefix}/{MANIFEST}", manifest.to_json().encode())
    store.delete(f"{prefix}/{INCOMPLETE}")
    return manifest


def _incomplete(store: ObjectStore, prefix: str) -> dict[str, list[str]]:
    """Folder name to the keys that must go beside its mark: all where there is no manifest, none where there is one."""
    base = f"{prefix}/" if prefix else ""
    folders: dict[str, list[str]] = {}
    for info in store.list(base):
        name, slash, _ = info.key.removeprefix(base).partition("/")
        if slash:
            folders.setdefault(name, []).append(info.key)
    marked = {name: keys for name, keys in folders.items() if f"{base}{name}/{INCOMPLETE}" in keys}
    return {name: [] if f"{base}{name}/{MANIFEST}" in keys else keys for name, keys in marked.items()}


def _delete_rest(store: ObjectStore, prefix: str, keys: list[str]) -> None:
    last = f"{prefix}/{INCOMPLETE}"
    for key in keys:
        if key != last:
            store.delete(key)
    store.delete(last)


def _fault(store: ObjectStore, key: str, entry: FileEntry, there: Mapping[str, ObjectInfo], deep: bool) -> str | None:
    if key not in there:
        return f"{entry.name} is missing"
    if there[key].size_bytes != entry.size_bytes:
        return f"{entry.name} has {there[key].size_bytes} bytes, not {entry.size_bytes}"
    if deep and sha256_of_chunks(store.chunks(key)) != entry.sha256:
        return f"{entry.name} has another SHA-256 than when it was written"
    return None
