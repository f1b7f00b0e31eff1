"""From a YAML file and overrides to a checked config.

    load("configs/finetune/quickstart.yaml", FinetuneConfig, ["optimizer.lr=1e-4"])

In this order: the file and its bases are read and merged, overrides are laid over them, literal secrets are refused,
`${...}` is resolved, every field is checked, and then what only shows when fields are held against each other. All that
is wrong is reported at once, each fault with its place.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from genai.config.checking import check
from genai.config.dialect import dump
from genai.config.inherit import read_with_bases
from genai.config.interpolation import resolve_references
from genai.config.overrides import apply_overrides, origin_of
from genai.config.schemas import HOOKS, job_of
from genai.config.secrets import looks_like_secret
from genai.config.tree import Key, Node, find, map_leaves, nearest, parse_key, plain
from genai.config.wording import key_name
from genai.errors import ConfigError, Problem
from genai.log import get_logger

C = TypeVar("C")
_NOT_PART_OF_THE_WORK = ("run_name", "runs_dir")
_PLACE = re.compile(r"(?P<file>.*):(?P<line>\d+):(?P<column>\d+)")
_logger = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Loaded(Generic[C]):
    """A job file that was loaded: its config, and where each value of it came from."""

    config: C
    """Checked, with all references to other keys resolved; secrets are still references."""
    unresolved: dict[str, Any]
    """File, bases and overrides merged, `${...}` as written: what is saved, logged and handed to workers."""
    path: Path
    """The job file."""
    overrides: tuple[str, ...]
    """`KEY=VALUE` texts that were laid over it."""
    tree: Node = field(repr=False)
    """Every value with its origin."""

    def locate(self, key: Key | str) -> str:
        """Where a key was written, or else its closest parent: `file:line:column`, or `override 'a.b=1'`."""
        return nearest(self.tree, _as_key(key)).origin.where()

    def origin(self, key: Key | str) -> str:
        """Where a value came from: `file:line`, `base file:line`, `override` or `default`."""
        node = find(self.tree, _as_key(key))
        return node.origin.summary() if node else "default"

    def problem(self, key: Key | str, message: str, fix: str | None = None) -> Problem:
        """A fault at a key, to be raised in a `ConfigError`."""
        return Problem(message=message, where=self.locate(key), fix=fix)

    def dump(self) -> str:
        """The unresolved config as YAML."""
        return dump(self.unresolved)


def load(path: Path | str, schema: type[C], overrides: Sequence[str] = ()) -> Loaded[C]:
    """Load a job file.

    Args:
        path: of a YAML file.
        schema: the job's config class.
        overrides: `KEY=VALUE` texts from the command line.

    Raises:
        ConfigError: with every problem that was found, in the order of the file.
    """
    tree, problems = read_with_bases(Path(path))
    tree, found = apply_overrides(tree, overrides)
    problems += found
    tree, found = _refuse_secrets(tree)
    problems += found
    resolved, found = resolve_references(tree)
    problems += found
    passed_over: list[Problem] = []
    hooks = HOOKS.get(schema)
    if hooks is not None:
        resolved, found, passed_over = hooks.set_aside(resolved)
        problems += found
    config, found = check(schema, resolved, job=job_of(schema))
    problems += found
    if config is None or problems:
        raise ConfigError(_in_order(problems, overrides))
    loaded = Loaded(config=config, unresolved=plain(tree), path=Path(path), overrides=tuple(overrides), tree=resolved)
    _check_whole(loaded, passed_over)
    return loaded


def config_hash(loaded: Loaded[Any]) -> str:
    """Eight hexadecimal digits of what a config says, its name and the place of its run left out."""
    values = {name: value for name, value in asdict(loaded.config).items() if name not in _NOT_PART_OF_THE_WORK}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def _check_whole(loaded: Loaded[Any], warnings: list[Problem]) -> None:
    """Hold the fields against each other; log the settings without an effect."""
    hooks = HOOKS.get(type(loaded.config))
    findings = hooks.check(loaded.config) if hooks else []
    faults = [loaded.problem(each.key, each.message, each.fix) for each in findings if not each.is_warning]
    if faults:
        raise ConfigError(_in_order(faults, loaded.overrides))
    warnings = warnings + [loaded.problem(each.key, each.message) for each in findings if each.is_warning]
    for warning in _in_order(warnings, loaded.overrides):
        _logger.warning("%s", warning.line())


def _refuse_secrets(tree: Node) -> tuple[Node, list[Problem]]:
    problems = []

    def refuse(key: Key, node: Node) -> Node:
        if not looks_like_secret(node.value, name=str(key[-1]) if key else ""):
            return node
        message = f"{key_name(key)} holds what looks like a secret"
        fix = "write env:NAME and export NAME, or file:PATH"
        problems.append(Problem(message=message, where=node.origin.where(), fix=fix))
        return replace(node, value=None, raw=None, broken=True)

    return map_leaves(tree, refuse), problems


def _in_order(problems: list[Problem], overrides: Sequence[str]) -> list[Problem]:
    """Without repetitions, by place: the order of the files, then that of the overrides."""
    places = [origin_of(text).where() for text in overrides]

    def place(problem: Problem) -> tuple[bool, str, int, int]:
        where = problem.where or ""
        match = None if where in places else _PLACE.fullmatch(where)
        if match is None:
            return (True, "", places.index(where) if where in places else len(places), 0)
        return (False, match["file"], int(match["line"]), int(match["column"]))

    return sorted(dict.fromkeys(problems), key=place)


def _as_key(key: Key | str) -> Key:
    return parse_key(key) if isinstance(key, str) else key
