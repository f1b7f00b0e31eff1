"""Templates of prompts: a text with columns in braces, `Answer in one word: {question}`.

Nothing but a column can stand in braces, no attribute, no index, no format; a brace that shall stay is written twice:
`{{` and `}}`. What a column holds is put in as it is, and is not looked through for braces again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genai.data.messages import Unusable
from genai.errors import UsageError
from genai.registry import suggest

_STAYS = "write {{ and }} for braces that stay"


@dataclass(frozen=True, kw_only=True)
class Template:
    """A template that was read; `parse` makes one."""

    parts: tuple[tuple[str, str | None], ...]
    """(text, column that follows it), in their order; the last one may have no column."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it puts in, each once."""
        return tuple(dict.fromkeys(column for _, column in self.parts if column is not None))

    def fill(self, values: Mapping[str, Any]) -> str:
        """The prompt of one row.

        Args:
            values: column -> value; a list of texts is put in as paragraphs, another structure as JSON.

        Raises:
            Unusable: a column is missing or empty.
        """
        return "".join(text + ("" if column is None else _shown(values, column)) for text, column in self.parts)

    def check(self, known: Sequence[str]) -> None:
        """Refuse columns that do not exist.

        Args:
            known: the columns that there are.

        Raises:
            UsageError: names the first one, with the nearest that exists.
        """
        for column in self.columns:
            if column not in known:
                near = suggest(column, known)
                fix = f"did you mean '{{{near}}}'?" if near else f"the columns are: {', '.join(known)}; {_STAYS}"
                raise UsageError(f"the prompt names the column '{column}', which the rows do not have", fix=fix)


def parse(text: str) -> Template:
    """Read a template.

    Raises:
        UsageError: a brace has no partner, or nothing stands between two.
    """
    parts: list[tuple[str, str | None]] = []
    said, at = "", 0
    while at < len(text):
        sign, pair = text[at], text[at : at + 2]
        if pair in ("{{", "}}"):
            said, at = said + sign, at + 2
        elif sign == "}":
            raise UsageError(f"the prompt closes a brace that was not opened (character {at + 1})", fix=_STAYS)
        elif sign == "{":
            end = text.find("}", at)
            name = text[at + 1 : end].strip()
            if end < 0 or not name or "{" in name or "\n" in name:
                raise UsageError(f"the prompt opens a brace around no column (character {at + 1})", fix=_STAYS)
            parts.append((said, name))
            said, at = "", end + 1
        else:
            said, at = said + sign, at + 1
    return Template(parts=(*parts, (said, None)))


def _shown(values: Mapping[str, Any], column: str) -> str:
    value = values.get(column)
    if value is None or value == "":
        raise Unusable(f"'{column}' is empty")
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return "\n\n".join(value)
    return json.dumps(value, ensure_ascii=False, default=str)
