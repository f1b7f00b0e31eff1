"""Task files of a user's own: what in them would run Python is found before lm-eval reads them.

lm-eval runs a function of any module for `!function`, a class for `class`, and the code of a repository on the hub for
a metric that it does not know. A job file runs no code unless --allow-code is given, and neither do files it names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import yaml

from genai.errors import DataError, Problem, UsageError

_CORE = "tag:yaml.org,2002:"
_PLAIN = frozenset(
    f"{_CORE}{name}"
    for name in ("binary", "bool", "float", "int", "map", "merge", "null", "seq", "set", "str", "timestamp", "value")
)
"""Tags of data."""
_FIX = "remove it, or give --allow-code if you have read that code"
_MAX_FILES = 10_000


class TaskFilesError(UsageError):
    """Task files that would run Python; holds every such place.

    Args:
        problems: at least one.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems[0].message, where=problems[0].where, fix=problems[0].fix)
        self.problems = tuple(problems)


def check_task_files(
    files: Sequence[Path], folder: str | Path | None, *, known_metrics: Collection[str], trusted: Path
) -> None:
    """Refuse task files that run code.

    Args:
        files: of single tasks.
        folder: all `.yaml` files below it are looked at, since lm-eval reads them all.
        known_metrics: names that are lm-eval's own.
        trusted: the folder of lm-eval itself; what is included from there is as safe as lm-eval.

    Raises:
        TaskFilesError: names each place.
        DataError: a file cannot be read, or is no YAML.
    """
    waiting = [*files, *(sorted(Path(folder).rglob("*.yaml")) if folder is not None else ())]
    seen: set[Path] = set()
    problems: list[Problem] = []
    while waiting:
        path = waiting.pop().expanduser().resolve()
        if path in seen or path.is_relative_to(trusted.resolve()):
            continue
        seen.add(path)
        if len(seen) > _MAX_FILES:
            raise UsageError(f"there are more than {_MAX_FILES} task files", where=str(folder))
        root = _compose(path)
        problems += _problems(root, path, known_metrics)
        waiting += [path.parent / name for name in _includes(root)]
    if problems:
        raise TaskFilesError(problems)


def _compose(path: Path) -> yaml.Node | None:
    try:
        return yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise DataError(f"a task file cannot be read: {error.strerror}", where=str(path)) from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"a task file is no YAML: {str(error).splitlines()[0]}", where=str(path)) from error


def _problems(root: yaml.Node | None, path: Path, known_metrics: Collection[str]) -> Iterator[Problem]:
    for node in _nodes(root):
        found = _runs(node, known_metrics)
        if found is not None:
            what, culprit = found
            mark = culprit.start_mark
            where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark is not None else str(path)
            yield Problem(message=f"{what} runs Python", where=where, fix=_FIX)


def _runs(node: yaml.Node, known_metrics: Collection[str]) -> tuple[str, yaml.Node] | None:
    """What about a node runs code, and where that stands; None where nothing does."""
    if node.tag not in _PLAIN:
        return node.tag.removeprefix(_CORE), node
    if not isinstance(node, yaml.MappingNode):
        return None
    values = {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}
    if "class" in values:
        return "a task with a class", values["class"]
    if "hf_evaluate" in values:
        return "a metric of the hub", values["hf_evaluate"]
    metric = values.get("metric")
    if isinstance(metric, yaml.ScalarNode) and metric.tag in _PLAIN and metric.value not in known_metrics:
        return f"the metric '{metric.value}', which is none of lm-eval's,", metric
    return None


def _nodes(root: yaml.Node | None) -> Iterator[yaml.Node]:
    """Every node once; aliases make a node part of several others."""
    waiting, seen = [root] if root is not None else [], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            waiting += [each for pair in reversed(node.value) for each in reversed(pair)]
        elif isinstance(node, yaml.SequenceNode):
            waiting += reversed(node.value)


def _includes(root: yaml.Node | None) -> list[str]:
    if not isinstance(root, yaml.MappingNode):
        return []
    found = [value for key, value in root.value if isinstance(key, yaml.ScalarNode) and key.value == "include"]
    nodes = [each for value in found for each in (value.value if isinstance(value, yaml.SequenceNode) else [value])]
    return [node.value for node in nodes if isinstance(node, yaml.ScalarNode)]
