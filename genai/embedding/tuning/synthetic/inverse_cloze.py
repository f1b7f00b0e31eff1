"""Queries without a generator: a sentence of a passage asks for the rest of it.

Source:
    Lee, Chang and Toutanova 2019, "Latent Retrieval for Weakly Supervised Open Domain Question Answering", 5.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from genai.data.chunking.sentences import sentence_ends
from genai.data.retrieval.records import Passage
from genai.embedding.tuning.synthetic.drafts import Draft

KEPT_SHARE = 0.1
"""Share of the queries whose sentence also stays in the passage, so that equal words still count (as in the paper)."""
_MIN_LETTERS = 12
"""Of a sentence; a shorter one asks for nothing ("See below.")."""
_MIN_REST_LETTERS = 20
"""A passage that is as good as empty without its sentence teaches nothing."""
_MAX_CHARACTERS = 400
"""A "sentence" that is longer is a table or a list."""


@dataclass(frozen=True, kw_only=True)
class Cloze:
    """A text in two parts."""

    query: str
    """One of its sentences."""
    rest: str
    """The others, in their order."""


def inverse_cloze(passages: Sequence[Passage], count: int, *, seed: int) -> Iterator[Draft]:
    """Up to `count` queries of each passage; a passage that is one sentence, or little more, gives none.

    Args:
        passages: what queries are made of.
        count: of each.
        seed: which sentences. What is chosen of a passage does not depend on the others.
    """
    for passage in passages:
        rng = random.Random(f"{seed}:inverse_cloze:{passage.text}")
        for cloze in clozes(passage.text, count, rng):
            kept = rng.random() < KEPT_SHARE
            yield Draft(
                query=cloze.query,
                passage=passage,
                style="inverse_cloze",
                positive_text=None if kept else cloze.rest,
                provenance={"method": "inverse_cloze", "sentence": "kept" if kept else "taken out"},
            )


def clozes(text: str, count: int, rng: random.Random) -> list[Cloze]:
    """Up to `count` different ways to take a sentence out of `text`, those from its middle first."""
    spans = sentence_spans(text)
    middle, ends = list(range(1, len(spans) - 1)), [0, len(spans) - 1][: len(spans)]
    rng.shuffle(middle)
    rng.shuffle(ends)
    found: list[Cloze] = []
    for place in dict.fromkeys([*middle, *ends]):
        cloze = take_out(text, *spans[place])
        known = any(cloze.query == other.query for other in found)
        if not known and _is_usable(cloze):
            found.append(cloze)
        if len(found) == count:
            break
    return found


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Beginning and end of each sentence, white space around it left out."""
    edges = sorted({0, len(text), *sentence_ends(text, 0, len(text))})
    spans = []
    for start, end in itertools.pairwise(edges):
        sentence = text[start:end]
        if sentence.strip():
            begin = start + len(sentence) - len(sentence.lstrip())
            spans.append((begin, begin + len(sentence.strip())))
    return spans


def take_out(text: str, start: int, end: int) -> Cloze:
    """`text` without what stands from `start` to `end`; of the white space on both sides the wider one stays."""
    before, after = text[:start], text[end:]
    left, right = before.rstrip(), after.lstrip()
    gaps = before[len(left) :], after[: len(after) - len(right)]
    return Cloze(query=text[start:end], rest=left + max(gaps, key=_width) + right if left and right else left or right)


def _width(gap: str) -> tuple[int, int]:
    return gap.count("\n"), len(gap)


def _is_usable(cloze: Cloze) -> bool:
    enough = _letters(cloze.query) >= _MIN_LETTERS and _letters(cloze.rest) >= _MIN_REST_LETTERS
    return enough and len(cloze.query) <= _MAX_CHARACTERS


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))
