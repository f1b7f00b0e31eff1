"""A training row, whatever file and format it came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    """Who speaks."""
    content: str
    """What is said."""
    trained: bool = False
    """Whether the model learns to say it."""
    extra: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    """What else the chat template may read: tool_calls, tool_call_id, name, reasoning_content."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A conversation or a plain text."""

    messages: tuple[Message, ...] = ()
    """The turns; empty for a plain text."""
    text: str | None = None
    """The plain text; None for a conversation."""
    tools: tuple[dict[str, Any], ...] = ()
    """JSON schemas of the functions that the assistant may call."""
    source: str = ""
    """Where it stands: `path:line`, or `path` and the row's number."""
    group: str = ""
    """Rows of one group stay on one side of a split; by default the row's own key."""

    @cached_property
    def key(self) -> str:
        """sha256 of the content; equal rows have equal keys, wherever they stand."""
        turns = [[m.role, m.content, m.trained, dict(m.extra)] for m in self.messages]
        content = json.dumps([self.text, turns, list(self.tools)], ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()

    def said_by(self, *roles: Role) -> str:
        """The turns of these roles as one text; a plain text counts as said by the user."""
        if self.text is not None:
            return self.text if "user" in roles else ""
        return "\n".join(message.content for message in self.messages if message.role in roles)

    @property
    def content(self) -> str:
        """All that is said, the system prompt left out."""
        return self.said_by("user", "assistant", "tool")


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that cannot be used, and why."""

    source: str
    """`path:line`."""
    reason: str
    """One sentence, with the way out where there is one."""


@dataclass(frozen=True, kw_only=True)
class RowSet:
    """What was read: the good rows in the order of the files, and the bad ones."""

    rows: tuple[Row, ...]
    bad: tuple[BadRow, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.rows)
