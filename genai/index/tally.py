"""What a sync has done so far: in memory for its report, and in the ledger's account of it with every batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genai.index.ledger_writing import Batch

_NUM_SLOWEST = 10


@dataclass(frozen=True, kw_only=True)
class Slow:
    """How long a document took to be read and cut."""

    key: str
    seconds: float


@dataclass(kw_only=True)
class Tally:
    """Counts and times of one sync.

    The account in the ledger is opened by the first batch that changes something, and added to in the transaction that
    a count is about, so that a sync that was killed is accounted for as well.
    """

    kind: str
    """sync, upsert, delete, rebuild or swap."""
    source: str | None = None
    """URI."""
    from_state: Mapping[str, Any] | None = None
    """Where the source stood before."""
    number: int | None = None
    """Of the account; None while nothing changed."""
    counts: Counter[str] = field(default_factory=Counter)
    """Named as in `SyncRecord`."""
    unchanged: int = 0
    """Documents that were passed over."""
    load_s: float = 0.0
    """Reading and cutting documents."""
    embed_s: float = 0.0
    slowest: list[Slow] = field(default_factory=list)
    """The slowest first."""

    def note_document(self, key: str, seconds: float) -> None:
        """One was read and cut."""
        self.load_s += seconds
        self.slowest = sorted([*self.slowest, Slow(key=key, seconds=seconds)], key=lambda slow: -slow.seconds)
        del self.slowest[_NUM_SLOWEST:]

    def add(self, changes: Batch, counts: Mapping[str, int]) -> None:
        """Count what was done in this transaction; nothing where all counts are 0."""
        counts = {name: count for name, count in counts.items() if count}
        if counts:
            changes.count(self.account(changes), counts)
            self.counts.update(counts)

    def shown(self) -> dict[str, str]:
        """What a progress bar shows."""
        tokens = self.counts["tokens"]
        return {
            "chunks": f"{self.counts['chunks_new']:,}",
            "embedded": f"{self.counts['embeddings_new']:,}",
            "tokens/s": f"{tokens / self.embed_s:,.0f}" if tokens and self.embed_s else "-",
        }

    def account(self, changes: Batch) -> int:
        """The number of the account, which is opened where it is not."""
        if self.number is None:
            self.number = changes.begin_sync(self.kind, source=self.source, from_state=self.from_state)
        return self.number
