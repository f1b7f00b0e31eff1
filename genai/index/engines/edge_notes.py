"""What we keep in mind about a published shard of Qdrant's embedded engine, in a file of its state."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from genai.index.engines.states import States

INDEXED_SHARE = 4
"""Points that came in are rounded, and made part of the graph, once there are a fourth of `exact_below` of them."""
_NAME = "notes.json"
_LOOSE_SHARE, _DEAD_SHARE = 0.05, 0.2


@dataclass(kw_only=True)
class Notes:
    """About one state; a writer goes on from those of the state before."""

    exact_below: int
    """Of the config when the shard was begun: up to so many points the engine compares one by one."""
    indexes: dict[str, str] = field(default_factory=dict)
    """Payload key -> type of its index."""
    num_loose: int = 0
    """Points that were put in since the graph was last brought up, some perhaps twice."""
    num_deleted: int = 0
    """Points that went since then."""

    def is_worn(self, num_points: int) -> bool:
        """Whether the graph is worth being brought up: comparing one by one has become too much, or a lot is dead."""
        least = self.exact_below // INDEXED_SHARE
        loose = self.num_loose > max(least, _LOOSE_SHARE * num_points)
        return loose or self.num_deleted > max(least, _DEAD_SHARE * num_points)

    def write(self, state: Path) -> None:
        """Into the folder of a state that is being written."""
        (state / _NAME).write_text(json.dumps(asdict(self)), encoding="utf-8")


def read_notes(states: States, state: Path) -> Notes:
    """The notes of a state that is held.

    Raises:
        DataError: they are damaged.
    """
    try:
        return Notes(**json.loads((state / _NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise states.damaged(state, f"{_NAME}: {error}") from None
