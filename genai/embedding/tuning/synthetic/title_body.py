"""Queries without a generator: the title of a passage asks for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from genai.data.retrieval.records import Passage
from genai.embedding.tuning.synthetic.drafts import Draft


def title_body(passages: Sequence[Passage]) -> Iterator[Draft]:
    """One query of each title. Of passages with the same title (chunks of one section) the first one is its answer."""
    seen = set()
    for passage in passages:
        title = re.sub(r"\s+", " ", passage.title or "").strip()
        if any(map(str.isalpha, title)) and title.casefold() not in seen:
            seen.add(title.casefold())
            yield Draft(
                query=title,
                passage=passage,
                style="title_body",
                positive_text=_without(title, passage),
                provenance={"method": "title_body"},
            )


def _without(title: str, passage: Passage) -> str | None:
    """The text without the title that it begins with: equal words would be all there is to learn. None: it does not,
    or is no more than that.
    """
    words = r"\s+".join(map(re.escape, title.split()))
    heading = re.match(rf"\s*(?:#+\s*)?{words}(?!\w)[\s.:#=-]*", passage.text)
    return passage.text[heading.end() :] or None if heading else None
