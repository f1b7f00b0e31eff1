"""What a generator is asked, short enough for models of a hundred million parameters.

A prompt begins with what all prompts of its style have in common, and ends with the passage: a generator that keeps
what it has read reads the beginning once. Two sets of examples take turns, so that a second query of the same style is
another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

VERSION = "1"
"""Of the texts below; noted with every query."""
AskedStyle = Literal["question", "keywords", "terse"]
"""What a generator is asked for; a misspelt query is made of a question."""
MAX_PASSAGE_CHARACTERS = 1600
"""A longer passage is put to the generator in part: small models lose the thread, and large ones cost."""


@dataclass(frozen=True, kw_only=True)
class _Example:
    text: str
    question: str
    keywords: str
    terse: str


_EXAMPLES = (
    (
        _Example(
            text="Bees leave the hive when it is warmer than 10 degrees. Below that they live on stored honey.",
            question="At what temperature do bees leave the hive?",
            keywords="temperature bees leave hive",
            terse="bees cold",
        ),
        _Example(
            text="Books are lent for four weeks. A loan can be extended twice, unless somebody waits for the book.",
            question="How often can I extend the loan of a book?",
            keywords="extend book loan how often",
            terse="loan extension",
        ),
    ),
    (
        _Example(
            text="The ferry sails at seven and at noon. Bicycles travel free; a car costs 40 euros each way.",
            question="What does it cost to take a car on the ferry?",
            keywords="ferry car price one way",
            terse="ferry prices",
        ),
        _Example(
            text="Bread goes stale faster in the fridge. Keep it in a linen bag, or freeze it in slices.",
            question="Should I keep bread in the fridge?",
            keywords="how to store bread fridge freezer",
            terse="storing bread",
        ),
    ),
)
_TASKS: dict[AskedStyle, tuple[str, str]] = {
    "question": ("Write one question that the text answers, in the language of the text.", "Question"),
    "keywords": (
        "Write what somebody types into a search box to find the text: three to six keywords, in the language of the "
        "text.",
        "Keywords",
    ),
    "terse": ("Write a very short search, two or three words, that finds the text, in its language.", "Search"),
}
_JUDGE = """Does the text answer the question? Reply with yes or no.

Text: Bees leave the hive when it is warmer than 10 degrees. Below that they live on stored honey.
Question: what do bees live on when it is cold?
Answer: yes

Text: Books are lent for four weeks. A loan can be extended twice, unless somebody waits for the book.
Question: how do I pay a fine?
Answer: no

Text: {text}
Question: {query}
Answer:"""


def query_prompt(style: AskedStyle, passage: str, *, turn: int = 0) -> str:
    """Ask for one query.

    Args:
        style: of the query.
        passage: what it is about.
        turn: how many queries of this style were asked of this passage before; another turn, another set of examples.
    """
    task, label = _TASKS[style]
    shown = [f"Text: {example.text}\n{label}: {getattr(example, style)}" for example in _EXAMPLES[turn % 2]]
    return "\n\n".join([task, *shown, f"Text: {shortened(passage)}\n{label}:"])


def judge_prompt(query: str, passage: str) -> str:
    """Ask whether a passage answers a query, for yes or no."""
    return _JUDGE.format(text=shortened(passage), query=query)


def example_queries() -> Iterator[str]:
    """Every query in the prompts: small models like to repeat them."""
    for examples in _EXAMPLES:
        for example in examples:
            yield from (example.question, example.keywords, example.terse)


def shortened(passage: str) -> str:
    """A passage as it stands in a prompt: on one line, cut between two words."""
    text = re.sub(r"\s+", " ", passage).strip()
    if len(text) <= MAX_PASSAGE_CHARACTERS:
        return text
    return text[: MAX_PASSAGE_CHARACTERS + 1].rpartition(" ")[0] or text[:MAX_PASSAGE_CHARACTERS]
