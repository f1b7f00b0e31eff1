"""`icl_tasks` and `eval_gauntlet` in files of their own, as llm-foundry's `scripts/eval/yamls` have them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from genai.config.checking import check
from genai.config.eval import GauntletConfig, IclTaskConfig
from genai.config.foundry import set_aside
from genai.config.inherit import read_with_bases
from genai.config.interpolation import resolve_references
from genai.errors import ConfigError
from genai.log import get_logger

_log = get_logger(__name__)
C = TypeVar("C")


@dataclass(frozen=True, kw_only=True)
class IclTasksFile:
    """A file with tasks."""

    icl_tasks: list[IclTaskConfig]
    """The tasks."""
    variables: dict[str, Any] = field(default_factory=dict)
    """Values to refer to elsewhere as ${variables.NAME}."""


@dataclass(frozen=True, kw_only=True)
class GauntletFile:
    """A file with a gauntlet."""

    eval_gauntlet: GauntletConfig
    """The gauntlet."""
    variables: dict[str, Any] = field(default_factory=dict)
    """Values to refer to elsewhere as ${variables.NAME}."""


def load_icl_tasks(path: Path | str) -> list[IclTaskConfig]:
    """The tasks of a file.

    Raises:
        ConfigError: with every problem that was found, in the file's own lines.
    """
    return _load(path, IclTasksFile).icl_tasks


def load_gauntlet(path: Path | str) -> GauntletConfig:
    """The gauntlet of a file.

    Raises:
        ConfigError: with every problem that was found, in the file's own lines.
    """
    return _load(path, GauntletFile).eval_gauntlet


def _load(path: Path | str, schema: type[C]) -> C:
    tree, problems = read_with_bases(Path(path))
    resolved, found = resolve_references(tree)
    rest, refused, passed_over = set_aside(resolved, job="eval")
    config, faults = check(schema, rest)
    problems += [*found, *refused, *faults]
    if config is None or problems:
        raise ConfigError(problems)
    for problem in passed_over:
        _log.warning("%s", problem.line())
    return config
