"""A fault in what the job file says about its data."""

from __future__ import annotations

from collections.abc import Sequence

from genai.errors import Problem, UsageError


class DataConfigError(UsageError):
    """A key that describes the data is wrong, as only a look at the data shows; holds every problem that was found.

    Args:
        problems: what is wrong, at least one.
        key: the key at fault, below the data set (`dataset.path`) or below the job (`data.split.group_by`).
    """

    code = "config"

    def __init__(self, problems: Sequence[Problem], *, key: str) -> None:
        super().__init__(problems[0].message, where=problems[0].where, fix=problems[0].fix)
        self.problems = tuple(problems)
        self.key = key


def data_fault(message: str, *, key: str, where: str | None = None, fix: str | None = None) -> DataConfigError:
    """A `DataConfigError` with one problem."""
    return DataConfigError([Problem(message=message, where=where, fix=fix)], key=key)
