"""What can be told of a model without loading it: `genai models show`."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genai.errors import DataError
from genai.models.gallery import GALLERY, GalleryEntry, find_entry
from genai.models.pull import SOURCE_FILE, known_sources, model_folder, read_provenance
from genai.models.references import ResolvedModel, resolve_model
from genai.models.registered import origin_of
from genai.storage.checksums import sha256_of


@dataclass(frozen=True, kw_only=True)
class Description:
    """Facts about one model; what is not known is None."""

    reference: str
    architecture: str | None
    parameters: int | None
    context_length: int | None
    licence: str | None
    dtype: str | None
    """How the weights are stored."""
    sources: tuple[str, ...]
    """Where it can be had from."""
    source: str | None
    """Where the files that are here came from."""
    note: str | None
    """How these weights differ from the original ones."""
    path: Path | None
    """The folder, when the model is here."""
    files: dict[str, dict[str, Any]]
    """Relative path to `{"size_bytes", "sha256"}`."""


def describe(reference: str, *, runs_dir: str | Path = "runs") -> Description:
    """Facts about the model that `reference` names; a gallery model that is not here is described without pulling it.

    Raises:
        UsageError: nothing answers to that reference.
        DataError: a safetensors file is damaged.
    """
    scheme, _, name = reference.partition(":")
    entry = find_entry(name) if scheme == "gallery" else GALLERY.get(reference)
    if entry is not None:
        folder = model_folder(entry.name)
        return _of_entry(entry) if not (folder / SOURCE_FILE).is_file() else _of_folder(reference, folder, entry)
    resolved = resolve_model(reference, runs_dir=runs_dir, weights=False)
    return _of_folder(reference, resolved.path, None, resolved, origin=origin_of(reference, runs_dir))


def licence_of(resolved: ResolvedModel) -> str | None:
    """The licence of a model of the gallery, or the one its model card names."""
    for entry in GALLERY.values():
        if entry.hub.repo_id == resolved.hub_id:
            return entry.licence
    return _licence_in_card(resolved.path / "README.md")


def count_parameters(folder: Path) -> int | None:
    """Weights in the safetensors of `folder`, read from the headers; None when there are none.

    Raises:
        DataError: a header is damaged.
    """
    shapes = [shape for file in sorted(folder.glob("*.safetensors")) for shape in _shapes(file)]
    return sum(math.prod(shape) for shape in shapes) if shapes else None


def _of_entry(entry: GalleryEntry) -> Description:
    return Description(
        reference=f"gallery:{entry.name}",
        architecture=None,
        parameters=entry.parameters,
        context_length=entry.context_length,
        licence=entry.licence,
        dtype=None,
        sources=known_sources(entry),
        source=None,
        note=entry.package.note if entry.package else None,
        path=None,
        files={},
    )


def _of_folder(
    reference: str,
    folder: Path,
    entry: GalleryEntry | None,
    resolved: ResolvedModel | None = None,
    *,
    origin: str | None = None,
) -> Description:
    config = json.loads((folder / "config.json").read_text())
    provenance = read_provenance(folder)
    hub_source = f"hub {resolved.hub_id}@{resolved.revision}" if resolved and resolved.revision else None
    return Description(
        reference=reference,
        architecture=", ".join(config.get("architectures") or []) or config.get("model_type"),
        parameters=entry.parameters if entry else count_parameters(folder),
        context_length=entry.context_length if entry else config.get("max_position_embeddings"),
        licence=entry.licence if entry else (licence_of(resolved) if resolved else None),
        dtype=config.get("dtype") or config.get("torch_dtype"),
        sources=known_sources(entry) if entry else (),
        source=provenance.source if provenance else (hub_source or origin),
        note=provenance.note if provenance else None,
        path=folder,
        files=provenance.files if provenance else _hashed(folder),
    )


def _hashed(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        path.relative_to(folder).as_posix(): {"size_bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def _shapes(file: Path) -> list[list[int]]:
    """The shapes in a safetensors file. Source: safetensors' format: a uint64 length, then a JSON header."""
    try:
        with open(file, "rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, file.stat().st_size)))
        return [tensor["shape"] for name, tensor in header.items() if name != "__metadata__"]
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError("this is no intact safetensors file", where=str(file), fix="fetch it again") from error


def _licence_in_card(card: Path) -> str | None:
    """The `license:` line of a model card's front matter."""
    if not card.is_file():
        return None
    _, fence, rest = card.read_text(encoding="utf-8", errors="replace").partition("---\n")
    for line in rest.partition("\n---")[0].splitlines() if fence else []:
        key, _, value = line.partition(":")
        if key == "license" and value.strip():
            return value.strip().strip("\"'")
    return None
