"""A query on its way from being made to being kept, and what is said of it in the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from genai.data.retrieval.records import Pair, Passage


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A query that was made of a passage."""

    query: str
    passage: Passage
    style: str
    """The style, or the method where no generator was asked; yields are counted by it."""
    provenance: Mapping[str, str]
    positive_text: str | None = None
    """See `genai.data.retrieval.records.Pair`."""

    def noted(self, **provenance: str) -> Draft:
        """The same with more provenance."""
        return replace(self, provenance={**self.provenance, **provenance})

    def pair(self) -> Pair:
        """As it is trained on."""
        return Pair(
            query=self.query,
            positive=self.passage.key,
            positive_text=self.positive_text,
            source=self.passage.source,
            provenance=self.provenance,
        )


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A query that is not used, for the report."""

    reason: str
    """In a few words, such as "not found among the first 10"."""
    query: str
    """What was made, as far as it was read."""
    style: str
    passage: str
    """Key of the passage."""
    text: str
    """The passage's beginning."""


@dataclass(frozen=True, kw_only=True)
class MadeCounts:
    """How many queries there were at each step; the fields are those of the job's result."""

    method: str
    """A generator's name, inverse_cloze or title_body, joined by commas."""
    num_passages: int
    """Passages that queries were made of."""
    num_made: int
    """Queries that were asked for or taken from the text, those among them that are of no use."""
    num_round_trip: int
    """Kept because the model finds their passage."""
    num_judged: int
    """Kept by the judge; as num_round_trip where there is none."""
    yield_share: float
    """num_judged / num_made."""
    usd: float
    """What they cost, by the prices in the job file; answers that were there from before count."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """Synthetic queries, and what became of the others."""

    pairs: tuple[Pair, ...]
    counts: MadeCounts
    by_style: Mapping[str, tuple[int, int]]
    """Style or method -> how many were made, and how many of them are kept."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Why the others were dropped -> how many, the most frequent first."""
    dropped: tuple[Dropped, ...] = ()
    """A few of each reason."""


def dropped(draft: Draft, reason: str) -> Dropped:
    """A draft that is not used."""
    return Dropped(
        reason=reason,
        query=draft.query,
        style=draft.style,
        passage=draft.passage.key,
        text=draft.passage.text[:SHOWN_CHARACTERS],
    )


SHOWN_CHARACTERS = 160
"""Of a passage, or of an answer that is of no use."""
