"""From what a generator answers to a query, or to the reason why there is none in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from genai.embedding.tuning.synthetic.prompts import AskedStyle, example_queries
from genai.report.terminal import strip_controls

MAX_WORDS: dict[AskedStyle, int] = {"question": 40, "keywords": 10, "terse": 5}
"""A longer answer is no query of that style; terse allows for one or two small words."""
MAX_CHARACTERS = 300
_COPIED_WORDS = 6
"""So many words in a row that stand in the passage are a copy; shorter keywords are bound to stand there."""
_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_LABEL = re.compile(
    r"(?:(?:search\s+)?quer(?:y|ies)|questions?|keywords?|search(?:\s+terms?)?|answer|output|q|a|frage|fråga|pregunta)"
    r"\s*#?\d{0,2}\s*[:：]\s*",  # noqa: RUF001  # the wide colon of Chinese and Japanese
    re.IGNORECASE,
)
_BULLET = re.compile(r"(?:[-*•–>]|\(?\d{1,2}[.)]|#{1,6})\s+")  # noqa: RUF001  # an en dash, as lists have it
_MARKUP = re.compile(r"\*\*|__|`")
_QUOTES = {
    '"': '"',
    "'": "'",
    "\u201c": "\u201d",
    "\u201e": "\u201c",
    "\u2018": "\u2019",
    "«": "»",
    "»": "«",
    "「": "」",
}
_LEAD_IN = re.compile(r"(?:sure|certainly|of course|okay|ok|here(?:'s| is| are))\b[^:?]*:\s*", re.IGNORECASE)
_REFUSAL = re.compile(
    r"\b(?:i'?m sorry|i (?:cannot|can'?t|am unable|do(?:n'?t| not) have)|as an ai|language model)\b", re.IGNORECASE
)
_OF_THE_TEXT = re.compile(
    r"\b(?:the|this|that|given|provided|above|following)\s+(?:text|passage|paragraph|excerpt|snippet|author|sentence)s?\b"
    r"|\bthis question\b",
    re.IGNORECASE,
)
_QUESTION_MARKS = ("?", "\uff1f", "\u061f")
"""Latin, wide, Arabic."""


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """An answer without a query in it."""

    reason: str
    answer: str
    """Its first line."""


def parse_query(answer: str, *, style: AskedStyle, passage: str) -> str | Rejected:
    """The query in a generator's answer.

    Args:
        answer: as it came; only its first line that says something counts, without numbering, label, quotes, markup.
        style: what was asked for.
        passage: what the query is of.
    """
    query = _as(style, first_line(answer))
    reason = next((reason for reason, applies in _FAULTS if applies(query, style, passage)), None)
    return query if reason is None else Rejected(reason=reason, answer=query)


def parse_verdict(answer: str) -> bool | None:
    """What a judge says: yes, no, or neither of them clearly."""
    match = re.fullmatch(r"(yes|no)(?:[.,;:!\u2013-].*)?", first_line(answer), re.IGNORECASE)
    return None if match is None else match[1].lower() == "yes"


def first_line(answer: str) -> str:
    """The first line that says something, bare of what models put around it."""
    text = strip_controls(_THINKING.sub("", answer))
    lines = (_bare(line) for line in text.splitlines() if not line.lstrip().startswith("```"))
    return next(filter(None, lines), "")


def normalised(text: str) -> str:
    """Letters and digits in small, single spaces between: what is compared."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _bare(line: str) -> str:
    """A line without white space, bullets, labels, markup and quotes around it, however they are nested."""
    line = re.sub(r"\s+", " ", _MARKUP.sub("", line)).strip()
    while True:
        shorter = line
        for dress in (_BULLET, _LEAD_IN, _LABEL):
            match = dress.match(shorter)
            shorter = shorter[match.end() :] if match else shorter
        if len(shorter) > 1 and _QUOTES.get(shorter[0]) == shorter[-1]:
            shorter = shorter[1:-1]
        shorter = shorter.strip()
        if shorter == line:
            return line
        line = shorter


def _as(style: AskedStyle, line: str) -> str:
    """A line as a query of that style: a question ends with its mark, keywords are words, each of them once."""
    if style == "question":
        ends = [place + 1 for mark in _QUESTION_MARKS if (place := line.find(mark)) >= 0]
        return line[: min(ends)] if ends else line
    words: dict[str, str] = {}
    for word in re.sub(r"[,;|/]+(?=\s|$)|\.$", " ", line).split():
        words.setdefault(word.casefold(), word)
    return " ".join(words.values())


def _is_copy(query: str, style: AskedStyle, passage: str) -> bool:
    words = normalised(query)
    return words.count(" ") + 1 >= _COPIED_WORDS and f" {words} " in f" {normalised(passage)} "


def _is_too_long(query: str, style: AskedStyle, passage: str) -> bool:
    return len(query) > MAX_CHARACTERS or len(query.split()) > MAX_WORDS[style]


def _speaks_of_the_text(query: str, style: AskedStyle, passage: str) -> bool:
    match = _OF_THE_TEXT.search(query)
    return match is not None and match[0].casefold() not in passage.casefold()


_EXAMPLES = frozenset(map(normalised, example_queries()))
_Fault = Callable[[str, AskedStyle, str], bool]
_FAULTS: tuple[tuple[str, _Fault], ...] = (
    ("no answer", lambda query, style, passage: not any(map(str.isalnum, query))),
    ("refused", lambda query, style, passage: _REFUSAL.search(query) is not None),
    ("copied from the passage", _is_copy),
    ("too long", _is_too_long),
    ("too short", lambda query, style, passage: len(normalised(query).replace(" ", "")) < 3),
    ("no question", lambda query, style, passage: style == "question" and not query.endswith(_QUESTION_MARKS)),
    ("a question, not keywords", lambda query, style, passage: style != "question" and query.endswith(_QUESTION_MARKS)),
    ("speaks of the text", _speaks_of_the_text),
    ("an example of the prompt", lambda query, style, passage: normalised(query) in _EXAMPLES),
)
"""In this order: the first that applies is the reason."""
