"""Where rows come from: a reference of the job file, resolved to files or a data set, and read as records.

Everything that can be known without reading is checked first: all references are resolved before the first record.
"""

from __future__ import annotations

import glob
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from genai.data import gallery, hub
from genai.data.faults import DataConfigError, data_fault
from genai.data.readers import SUFFIXES, Record, SourceFile, read_file, suffix_of
from genai.data.rows import BadRow
from genai.data.tables import SCHEME, OpenTable, split_table_reference, table_records
from genai.errors import DataError, MissingExtraError, Problem, UsageError
from genai.registry import suggest
from genai.storage import fetch, is_remote
from genai.storage.atomic import cache_dir

KEY = "dataset.path"
_SCHEMES = ("hf", "gallery", "s3", "delta")
_WILD = frozenset("*?[")


def read_records(
    path: str | Sequence[str],
    *,
    split: str = "train",
    hf_kwargs: Mapping[str, Any] | None = None,
    open_table: OpenTable | None = None,
) -> Iterator[Record | BadRow]:
    """The records behind one or more references, in their order; files of a folder or a pattern sorted by name.

    Args:
        path: a file, folder, pattern, `s3://...`, `gallery:NAME`, `hf:DATASET` or `delta:URI[@VERSION]`, or a list of
            them.
        split: which split of a Hugging Face data set.
        hf_kwargs: further arguments of `datasets.load_dataset`.
        open_table: for `delta:`; without one there are no tables here.

    Raises:
        DataConfigError: a reference leads nowhere (all of them are named), or a file cannot be read at all.
    """
    references = [path] if isinstance(path, str) else list(path)
    files = find_files([ref for ref in references if not ref.startswith(("hf:", SCHEME))])
    if any(ref.startswith("hf:") for ref in references):
        hub.check(hf_kwargs or {})
    parts: list[Iterator[Record | BadRow]] = []
    for reference in references:
        if reference.startswith("hf:"):
            parts.append(hub.read(reference.removeprefix("hf:"), split=split, kwargs=hf_kwargs or {}))
        elif reference.startswith(SCHEME):
            parts.append(_read_table(reference, open_table))
        else:
            parts.append(_read_files(files[reference]))
    return (record for part in parts for record in part)


def find_files(
    references: Sequence[str], *, suffixes: Collection[str] = tuple(SUFFIXES)
) -> dict[str, list[SourceFile]]:
    """The files behind each reference that is no `hf:` and no table; bucket and gallery are fetched into the cache.

    Args:
        references: see `read_records`.
        suffixes: endings of the files that are taken from a folder.

    Raises:
        DataConfigError: names every reference that leads nowhere.
    """
    found: dict[str, list[SourceFile]] = {}
    problems: list[Problem] = []
    for reference in references:
        try:
            found[reference] = _find(reference, suffixes)
        except DataConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise DataConfigError(problems, key=KEY)
    return found


def _read_table(reference: str, open_table: OpenTable | None) -> Iterator[Record]:
    if open_table is None:
        raise data_fault("tables cannot be read here", key=KEY, where=reference, fix="name files")
    try:
        return table_records(open_table(*split_table_reference(reference)))
    except MissingExtraError:
        raise
    except (UsageError, DataError) as error:
        raise data_fault(error.message, key=KEY, where=reference, fix=error.fix) from error


def _read_files(files: Sequence[SourceFile]) -> Iterator[Record | BadRow]:
    for file in files:
        yield from read_file(file)


def _find(reference: str, suffixes: Collection[str]) -> list[SourceFile]:
    if reference.startswith("gallery:"):
        path = gallery.pull(reference.removeprefix("gallery:"))
        return [SourceFile(path=path, name=reference)]
    if is_remote(reference):
        local = _fetch(reference)
        return [
            SourceFile(path=file, name=_remote_name(reference, local, file))
            for file in _files_at(local, reference, suffixes)
        ]
    path = Path(reference.removeprefix("file://")).expanduser()
    if _WILD & set(reference) and not path.exists():
        return _matching(reference, path)
    if not path.exists():
        raise _missing(reference, path)
    return [SourceFile(path=file, name=str(file)) for file in _files_at(path, reference, suffixes)]


def _fetch(reference: str) -> Path:
    try:
        return fetch(reference, cache_dir() / "data")
    except DataError as error:
        raise data_fault(error.message, key=KEY, where=reference, fix=error.fix) from error


def _remote_name(reference: str, local: Path, file: Path) -> str:
    """The URL of a file that was fetched; what a pattern matched lies below the folder before its first wildcard."""
    if file == local:
        return reference
    wild = min((reference.find(sign) for sign in _WILD if sign in reference), default=-1)
    folder = reference[:wild].rpartition("/")[0] if wild >= 0 else reference.rstrip("/")
    return f"{folder}/{file.relative_to(local).as_posix()}"


def _files_at(path: Path, reference: str, suffixes: Collection[str]) -> list[Path]:
    """The file itself, or all data files below the folder, hidden ones left out."""
    if path.is_file():
        return [path]
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and _is_data(file.relative_to(path), suffixes)]
    if not files:
        endings = ", ".join(sorted(suffixes))
        raise data_fault(f"the folder holds no {endings} files", key=KEY, where=reference)
    return files


def _is_data(relative: Path, suffixes: Collection[str]) -> bool:
    hidden = any(part.startswith((".", "_")) for part in relative.parts)
    return not hidden and suffix_of(relative) in suffixes


def _matching(reference: str, path: Path) -> list[SourceFile]:
    files = [Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if Path(name).is_file()]
    if not files:
        raise data_fault("no file matches this pattern", key=KEY, where=reference)
    return [SourceFile(path=file, name=str(file)) for file in files]


def _missing(reference: str, path: Path) -> DataConfigError:
    scheme, colon, rest = reference.partition(":")
    near_scheme = suggest(scheme, _SCHEMES) if colon else None
    if near_scheme is not None:
        return data_fault("no such file", key=KEY, where=reference, fix=f"did you mean '{near_scheme}:{rest}'?")
    ancestor = path.absolute()
    missing = ancestor.name
    while not ancestor.exists():
        missing, ancestor = ancestor.name, ancestor.parent
    what = "no such file or folder" if missing == path.name else f"there is no '{missing}' in {ancestor}"
    near = suggest(missing, (entry.name for entry in ancestor.iterdir())) if ancestor.is_dir() else None
    if near is not None:
        corrected = ancestor / near / path.absolute().relative_to(ancestor / missing)
        fix: str | None = f"did you mean '{_as_written(corrected, path)}'?"
    else:
        fix = f"for a data set of the Hugging Face hub write hf:{reference}" if _like_hub_name(reference) else None
    return data_fault(what, key=KEY, where=reference, fix=fix)


def _as_written(corrected: Path, path: Path) -> Path:
    """Relative to the working folder when the reference was."""
    return corrected if path.is_absolute() else corrected.relative_to(Path().absolute())


def _like_hub_name(reference: str) -> bool:
    return reference.count("/") == 1 and "." not in reference and not reference.startswith(("/", "~"))
