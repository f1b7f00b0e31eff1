"""Which passages queries are made of."""

from __future__ import annotations

from collections.abc import Sequence

from genai.data.retrieval.records import Passage
from genai.data.split import hash_position


def choose_passages(passages: Sequence[Passage], max_chunks: int | None, *, seed: int) -> list[Passage]:
    """At most `max_chunks` of the passages that say something, in their order.

    Which ones depends on the seed and on their texts, not on their order: a corpus that grows keeps most of them.
    """
    usable = [passage for passage in passages if any(map(str.isalpha, passage.text))]
    if max_chunks is None or len(usable) <= max_chunks:
        return usable
    chosen = sorted(range(len(usable)), key=lambda place: hash_position(seed, usable[place].text))[:max_chunks]
    return [usable[place] for place in sorted(chosen)]
