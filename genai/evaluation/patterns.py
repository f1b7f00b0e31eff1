"""Regular expressions of job files, run with a time limit: one that goes astray costs an example, not the job.

Python's own `re` cannot be stopped, not even from another thread; the package regex can.
"""

from __future__ import annotations

from typing import Any

from genai.errors import MissingExtraError, UsageError

TIME_LIMIT_S = 1.0
"""For one text."""
MAX_CHARACTERS = 2_000
"""Of a pattern."""


class Pattern:
    """Finds the answer proper in an answer.

    Args:
        text: a regular expression; the first group that took part is the answer proper, else the whole match.

    Raises:
        UsageError: it is none.
        MissingExtraError: the package regex is not installed.
    """

    def __init__(self, text: str) -> None:
        try:
            import regex
        except ImportError as error:
            raise MissingExtraError("regex", extra="eval", needed_for="a regular expression in a job file") from error
        if len(text) > MAX_CHARACTERS:
            raise UsageError(f"a pattern of {len(text)} characters is too long", fix=f"at most {MAX_CHARACTERS}")
        try:
            self._compiled: Any = regex.compile(text)
        except regex.error as error:
            raise UsageError(
                f"'{text}' is no regular expression: {error}", fix="write one such as 'Answer: (.*)'"
            ) from error
        self.text = text

    def find(self, text: str) -> str | None:
        """The answer proper in the first match; None where nothing matches.

        Raises:
            TimeoutError: it took longer than the time limit.
        """
        match = self._compiled.search(text, timeout=TIME_LIMIT_S)
        if match is None:
            return None
        found: str = next((group for group in match.groups() if group is not None), match[0])
        return found
