"""Queries that a generator writes: which ones are asked for, and what is made of its answers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from genai.config.embed_finetune import QueryStyle, SyntheticQueriesConfig
from genai.data.retrieval.records import Passage
from genai.data.split import hash_position
from genai.embedding.tuning.synthetic.answers import Rejected, parse_query
from genai.embedding.tuning.synthetic.asking import Asked, ask, cost_usd
from genai.embedding.tuning.synthetic.cache import Prompt
from genai.embedding.tuning.synthetic.drafts import SHOWN_CHARACTERS, Draft, Dropped, dropped
from genai.embedding.tuning.synthetic.prompts import VERSION, AskedStyle, query_prompt
from genai.embedding.tuning.synthetic.slips import misspell


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A query that is wanted."""

    passage: Passage
    style: QueryStyle
    prompt: Prompt

    @property
    def asked_style(self) -> AskedStyle:
        """What the generator is asked for."""
        return _asked_style(self.style)


@dataclass(frozen=True, kw_only=True)
class Written:
    """What came of the wishes."""

    drafts: tuple[Draft, ...]
    dropped: tuple[Dropped, ...]
    usd: float


def wishes(passages: Sequence[Passage], config: SyntheticQueriesConfig, *, seed: int) -> list[Wish]:
    """Which queries are wanted of each passage: the styles in turn, beginning with any of them.

    What is asked of a passage depends on its text alone, so that a corpus that grows asks of new passages only. A
    misspelt query is made of the question that is asked anyway, where one is.
    """
    wanted = []
    for passage in passages:
        first = int(hash_position(seed, passage.text) * len(config.styles))
        for place in range(config.queries_per_chunk):
            turn, style = place // len(config.styles), config.styles[(first + place) % len(config.styles)]
            asked = _asked_style(style)
            prompt = Prompt(
                text=query_prompt(asked, passage.text, turn=turn), seed=seed + turn, kind=f"{asked} {turn % 2}"
            )
            wanted.append(Wish(passage=passage, style=style, prompt=prompt))
    return wanted


def write(asked: Asked, wanted: Sequence[Wish], *, seed: int) -> Written:
    """Ask for the queries that are wanted, and read the answers.

    Raises:
        GenaiError: the generator fails.
    """
    answers = ask(asked, [wish.prompt for wish in wanted], what="making queries")
    drafts: list[Draft] = []
    refused: list[Dropped] = []
    seen: set[tuple[str, str]] = set()
    for wish in wanted:
        draft = _draft(wish, answers[wish.prompt], asked.generator.name, seed)
        if isinstance(draft, Dropped):
            refused.append(draft)
        elif (wish.passage.key, draft.query.casefold()) in seen:
            refused.append(dropped(draft, "the same query again"))
        else:
            seen.add((wish.passage.key, draft.query.casefold()))
            drafts.append(draft)
    return Written(drafts=tuple(drafts), dropped=tuple(refused), usd=cost_usd(asked, answers))


def _asked_style(style: QueryStyle) -> AskedStyle:
    return "question" if style == "misspelt" else style


def _draft(wish: Wish, answer: str, generator: str, seed: int) -> Draft | Dropped:
    query = parse_query(answer, style=wish.asked_style, passage=wish.passage.text)
    provenance = {"method": "generator", "generator": generator, "style": wish.style, "prompt": VERSION}
    if isinstance(query, Rejected):
        draft = Draft(
            query=query.answer[:SHOWN_CHARACTERS], passage=wish.passage, style=wish.style, provenance=provenance
        )
        return dropped(draft, query.reason)
    if wish.style == "misspelt":
        provenance["question"] = query
        query = misspell(query, random.Random(f"{seed}:misspelt:{query}"))
    return Draft(query=query, passage=wish.passage, style=wish.style, provenance=provenance)
