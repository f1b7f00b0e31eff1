"""Job files on disk, each with the file that it builds on: `base: other.yaml` in its first level, relative to it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

from genai.config.dialect import read
from genai.config.tree import Node, Origin, merge
from genai.config.wording import quotable
from genai.errors import ConfigError, Problem
from genai.registry import suggest

MAX_FILE_BYTES = 1_000_000


def read_with_bases(path: Path) -> tuple[Node, list[Problem]]:
    """A job file laid over its base, the base's base and so on.

    Returns:
        the merged tree without the key `base`, and what is wrong with single keys and values of any of the files.

    Raises:
        ConfigError: a file cannot be read, is no YAML mapping, or the bases go in a circle.
    """
    return _read_chain(path, "file", None, ())


def _read_chain(
    path: Path, source: Literal["file", "base"], named_at: Origin | None, above: tuple[Path, ...]
) -> tuple[Node, list[Problem]]:
    origin = Origin(source, str(path))
    text = _text_of(path, named_at or origin)
    tree, problems = read(text, origin)
    if tree is None:
        raise _refused("the file is empty", origin, "genai recipes ls shows files to start from")
    if not isinstance(tree.value, dict):
        raise _refused("a job file holds `key: value` lines", tree.origin, "genai config explain lists the keys")
    keys = dict(tree.value)
    base = keys.pop("base", None)
    tree = replace(tree, value=keys, origin=origin)
    if base is None:
        return tree, problems
    chain = (*above, path.resolve())
    base_tree, base_problems = _read_chain(_base_path(base, path, chain), "base", base.origin, chain)
    return merge(base_tree, tree), [*problems, *base_problems]


def _base_path(base: Node, path: Path, chain: tuple[Path, ...]) -> Path:
    if not isinstance(base.value, str) or not base.value or "${" in base.value:
        raise _refused("base must be the path of another job file", base.origin, "write base: other.yaml")
    target = Path(os.path.normpath(path.parent / base.value))
    if target.resolve() in chain:
        names = [file.name for file in (*chain[chain.index(target.resolve()) :], target)]
        raise _refused(f"base goes in a circle: {quotable(' -> '.join(names))}", base.origin)
    return target


def _text_of(path: Path, named_at: Origin) -> str:
    """The file's text; a file that is not there is reported at the place that names it."""
    try:
        if path.is_dir():
            raise _refused(f"{path} is a folder, not a file", named_at, _files_in(path))
        if not path.exists():
            raise _refused(f"no such file: {quotable(str(path))}", named_at, _near(path))
        if not path.is_file():
            raise _refused(f"{path} is no regular file", named_at)
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "its name is no path"
        raise _refused(f"cannot read {quotable(str(path))}: {reason}", named_at) from None
    here = replace(named_at, label=str(path), line=1, column=1)
    if len(data) > MAX_FILE_BYTES:
        raise _refused(f"more than {MAX_FILE_BYTES} bytes are no job file", here)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", errors="replace")
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        raise _refused(
            f"not UTF-8 text (byte 0x{data[error.start]:02x})",
            replace(here, line=line, column=column),
            "save the file as UTF-8",
        ) from None


def _near(path: Path) -> str | None:
    if not path.parent.is_dir():
        return f"there is no folder {quotable(str(path.parent))}"
    near = suggest(path.name, (file.name for file in path.parent.iterdir()))
    return f"did you mean '{path.parent / near}'?" if near else _files_in(path.parent)


def _files_in(folder: Path) -> str | None:
    names = sorted(file.name for file in folder.iterdir() if file.suffix in (".yaml", ".yml"))
    return f"job files there: {', '.join(names[:6])}" if names else None


def _refused(message: str, origin: Origin, fix: str | None = None) -> ConfigError:
    return ConfigError([Problem(message=message, where=origin.where(), fix=fix)])
