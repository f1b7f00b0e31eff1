"""Bring what a URL means onto this machine's disk, once for each content."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from genai.errors import DataError
from genai.storage import atomic
from genai.storage.base import ObjectInfo, ObjectStore, check_key, missing_object
from genai.storage.local import path_of
from genai.storage.locks import exclusive
from genai.storage.manifest import INCOMPLETE, MANIFEST
from genai.storage.parallel import for_each
from genai.storage.urls import is_remote, open_store, split

_WAIT_FOR_OTHERS_S = 3600.0
_SAME_START = 3
"""Names to suggest begin with as many letters of what was asked for: a bucket may be large."""
_WILD = re.compile(r"[*?\[]")


def fetch(url: str, to: Path) -> Path:
    """The local path of an object, of all objects below a prefix, or of those that match a pattern.

    What lies on this machine is not copied. What lies elsewhere is downloaded into a folder below `to` that is named
    after its content: unchanged objects are not downloaded again, changed ones never mix with old ones.

    Args:
        url: a path, `file:///...`, `s3://bucket/rows.jsonl`, `s3://bucket/data`, or `s3://bucket/data/**/*.jsonl`.
        to: folder of the cache; other processes may use it at the same time.

    Returns:
        the file; or the folder, for a prefix or a pattern, in which the objects keep their relative paths.

    Raises:
        DataError: there is no such object, or the folder was not written to its end.
    """
    if not is_remote(url):
        return _existing(path_of(url))
    store, name, inner, found = _look_up(url)
    target = to / f"{_readable(name or split(store.url)[1])}-{_fingerprint(url, found)}"
    with exclusive(target, timeout_s=_WAIT_FOR_OTHERS_S):
        if not target.is_dir():
            atomic.sweep(to)
            _download(store, found, inner, target)
    return target / name if inner is None else target


def find_objects(url: str) -> list[ObjectInfo]:
    """The objects elsewhere that `fetch` would bring here, in the order of their keys.

    Raises:
        DataError: there is no such object, or the folder was not written to its end.
    """
    return _look_up(url)[3]


def _existing(path: Path) -> Path:
    if not path.exists():
        raise DataError(f"there is no {path}")
    return path


def _split_pattern(url: str) -> tuple[str, str]:
    """The deepest folder without a wildcard, and what is asked for in it."""
    folder, name = split(url)
    while _WILD.search(folder):
        folder, last = split(folder)
        name = f"{last}/{name}"
    return folder, name


def _look_up(url: str) -> tuple[ObjectStore, str, str | None, list[ObjectInfo]]:
    """What a URL means: the store, what is asked for in it, the folder that is fetched (None for a single object), and
    the objects.
    """
    folder_url, name = _split_pattern(url)
    store = open_store(folder_url)
    one = store.stat(name) if name and not _WILD.search(name) else None
    return (store, name, None, [one]) if one else (store, name, *_select(store, name))


def _select(store: ObjectStore, name: str) -> tuple[str, list[ObjectInfo]]:
    """The folder that is fetched ("" for a pattern), and the objects that match the pattern or lie in the folder."""
    if wild := _WILD.search(name):
        parts = name.split("/")
        inner, found = "", [info for info in store.list(name[: wild.start()]) if _matches(info.key.split("/"), parts)]
    else:
        inner = f"{name}/" if name else ""
        found = store.list(inner)
    keys = {info.key for info in found}
    if not keys:
        raise missing_object(store.url, name, (info.key for info in store.list(name[:_SAME_START])))
    if f"{inner}{INCOMPLETE}" in keys and f"{inner}{MANIFEST}" not in keys:
        raise DataError(f"{store.url}/{inner} was not written to its end", fix="write it again, or choose another")
    return inner, found


def _matches(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether a key matches a glob pattern, part by part; `**` stands for any number of parts."""
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_matches(parts[skipped:], patterns[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], patterns[0]) and _matches(parts[1:], patterns[1:])


def _readable(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[:60] or "bucket"


def _fingerprint(url: str, found: list[ObjectInfo]) -> str:
    content = [[info.key, info.size_bytes, info.etag or info.modified] for info in found]
    return hashlib.sha256(json.dumps([url, content]).encode()).hexdigest()[:12]


def _download(store: ObjectStore, found: list[ObjectInfo], inner: str | None, target: Path) -> None:
    below = inner or ""
    needed_bytes = sum(info.size_bytes for info in found)
    with atomic.explain_full_disk(target, needed_bytes), atomic.atomic_directory(target) as scratch:
        for_each(
            lambda info: store.download(info.key, scratch / check_key(info.key.removeprefix(below))),
            found,
            description=f"downloading {store.url}/{below}",
            size=lambda info: info.size_bytes,
        )
