"""Every error that a user can cause or meet, as one small tree.

    GenaiError                      1   the job failed
    ├── UsageError                  2   the command line or the config is wrong
    │   ├── ConfigError             2   ... one or more keys of a job file, each with file:line:column
    │   └── MissingExtraError       2   ... an optional part of genai is not installed
    ├── DataError                   1   rows, files or objects cannot be used
    ├── GateError                   3   the job ran, but a threshold was not met
    ├── CredentialsError            4   a credential is missing or was refused
    └── StoppedError            130/143 interrupted by a signal after the state was saved

The exit codes are part of the command line's contract. Anything that is no `GenaiError` is a bug of ours (exit 70).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One fault in what the user gave us: what is wrong, where it stands, how to mend it."""

    message: str
    where: str | None = None
    """`file:line:column`, `override 'key=value'` or the name of the thing that is wrong."""
    fix: str | None = None

    def line(self) -> str:
        """The problem on one line: `where: message (fix)`."""
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text} ({self.fix})" if self.fix else text


class GenaiError(Exception):
    """A failure that we foresaw: it is printed as one line, without a traceback.

    Args:
        message: what is wrong, in one sentence without a full stop.
        where: file:line:column, a URL, a run, a key; None where the message says it.
        fix: what the user can do about it.
    """

    exit_code = 1
    code = "job_failed"

    def __init__(self, message: str, *, where: str | None = None, fix: str | None = None) -> None:
        super().__init__(message)
        self.problems: tuple[Problem, ...] = (Problem(message=message, where=where, fix=fix),)

    @property
    def message(self) -> str:
        return self.problems[0].message

    @property
    def where(self) -> str | None:
        return self.problems[0].where

    @property
    def fix(self) -> str | None:
        return self.problems[0].fix

    def __str__(self) -> str:
        return "\n".join(problem.line() for problem in self.problems)


class UsageError(GenaiError):
    """The command line cannot be carried out as it was typed."""

    exit_code = 2
    code = "usage"


class ConfigError(UsageError):
    """A job file (or an override) is wrong; holds every problem that was found, not only the first."""

    code = "config"

    def __init__(self, problems: Sequence[Problem]) -> None:
        if not problems:
            raise ValueError("a ConfigError needs at least one problem")
        super().__init__(problems[0].message, where=problems[0].where, fix=problems[0].fix)
        self.problems = tuple(problems)


class MissingExtraError(UsageError):
    """A package that an optional part of genai needs is not installed.

    Args:
        package: the import name that was not found.
        extra: the extra of `genai-foundry` that brings it.
        needed_for: what the user was about to do.
    """

    code = "missing_extra"

    def __init__(self, package: str, *, extra: str, needed_for: str) -> None:
        super().__init__(
            f"{needed_for} needs the package '{package}', which is not installed",
            fix=f"pip install 'genai-foundry[{extra}]'",
        )
        self.extra = extra


class DataError(GenaiError):
    """A file, row or object holds something that cannot be used."""

    code = "data"


class GateError(GenaiError):
    """The job ran to the point where a threshold of the config was not met."""

    exit_code = 3
    code = "gate"


class CredentialsError(GenaiError):
    """A token or key is missing or was refused."""

    exit_code = 4
    code = "credentials"


class StoppedError(GenaiError):
    """A signal stopped the job after its state was saved: SIGINT gives exit 130, SIGTERM 143."""

    code = "stopped"

    def __init__(self, message: str, *, signal_number: int, fix: str | None = None) -> None:
        super().__init__(message, fix=fix)
        self.exit_code = 128 + signal_number
