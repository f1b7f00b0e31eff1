"""Turns what a room says about a value into an error at the place in the job file where that value stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from genai.config.loading import Loaded
from genai.errors import ConfigError, CredentialsError, DataError, Problem, UsageError


class Problems:
    """Collects the faults of a job file, so that all are told at once.

    Args:
        loaded: the job file.
    """

    def __init__(self, loaded: Loaded[Any]) -> None:
        self._loaded = loaded
        self._found: list[Problem] = []

    def __len__(self) -> int:
        return len(self._found)

    @contextmanager
    def at(self, key: str) -> Iterator[None]:
        """A `UsageError` or `DataError` inside the block is a fault of the value of `key`; it is noted and the block
        is left.
        """
        try:
            yield
        except CredentialsError:
            raise
        except (UsageError, DataError) as error:
            self.extend(key, error.problems)

    def extend(self, key: str, problems: Sequence[Problem]) -> None:
        """Note faults that a room found in the value of `key`."""
        self._found += [located(self._loaded, key, problem) for problem in problems]

    def add(self, key: str, message: str, fix: str | None = None) -> None:
        """Note a fault of the value of `key`."""
        self._found.append(self._loaded.problem(key, message, fix))

    def raise_all(self) -> None:
        """End the job when anything was noted.

        Raises:
            ConfigError: with every fault.
        """
        if self._found:
            raise ConfigError(self._found)


@contextmanager
def at(loaded: Loaded[Any], key: str) -> Iterator[None]:
    """Like `Problems.at`, for a single value: the fault is raised at once."""
    problems = Problems(loaded)
    with problems.at(key):
        yield
    problems.raise_all()


@contextmanager
def named_keys(loaded: Loaded[Any]) -> Iterator[None]:
    """A `UsageError` inside the block that names a key of the job file is raised at the place of that key."""
    try:
        yield
    except UsageError as error:
        if not any(_is_key(loaded.config, problem.where) for problem in error.problems):
            raise
        raise ConfigError([located(loaded, "", problem) for problem in error.problems]) from error


def located(loaded: Loaded[Any], key: str, problem: Problem) -> Problem:
    """`problem` at the place of `key`, or of the key that it names itself; another place becomes part of the message.

    Args:
        loaded: the job file.
        key: the value that was looked at.
        problem: what a room says; its own place may be a key in the same section.
    """
    if problem.where is None:
        return loaded.problem(key, problem.message, problem.fix)
    for named in (problem.where, f"{key.rpartition('.')[0]}.{problem.where}"):
        if _is_key(loaded.config, named):
            is_named = named.rpartition(".")[2] in problem.message
            return loaded.problem(named, problem.message if is_named else f"{named} {problem.message}", problem.fix)
    return loaded.problem(key, f"{problem.where}: {problem.message}", problem.fix)


def _is_key(config: Any, text: str | None) -> bool:
    """Whether `text` is the path of a value of this config, such as `model.config_overrides.rope_theta`."""
    value = config
    for name in (text or "").split("."):
        if isinstance(value, Mapping) and name in value:
            value = value[name]
        elif name in getattr(value, "__dataclass_fields__", ()):
            value = getattr(value, name)
        else:
            return False
    return True
