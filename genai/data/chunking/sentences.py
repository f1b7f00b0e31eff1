"""Where sentences end, by rules that serve the languages of Europe, Chinese and Japanese.

A sentence ends with a full stop, `!`, `?` or `…`, closing quotes and brackets behind it, before white space that no
small letter or comma follows ("approx. five", "Stop!" he said); with the wide signs of Chinese and Japanese anywhere;
at an empty line; and before a line that begins an item of a list. A full stop ends none

- after one letter ("J. Smith", "e.g.", "z. B.") or a known abbreviation ("Dr. Who", "No. 5", "Nr. 5", "t.ex."),
- after the number that begins a line ("1. First of all").

That is wrong now and then ("He lives in Washington D.C. She does not."), which costs a chunk a better boundary.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_ENGLISH = """mr mrs ms dr prof sr jr st rev hon gen col capt lt sgt vs etc al approx ca cf ed eds est fig figs eq eqs
    sec secs ch chap vol vols no nos pp par para inc ltd co corp dept univ jan feb mar apr jun jul aug sep sept oct nov
    dec mon tue wed thu fri sat sun"""
_GERMAN_DUTCH = "abb abs abschn art aufl bd bzw ggf hrsg inkl nr sog str tel usw vgl zzgl zzt bijv blz"
_SCANDINAVIAN = "bl dvs kap kl osv resp tex tom"
_ROMANCE = "mme mlle mgr sig dott sra srta dña pág pag núm cap"
_ABBREVIATIONS = frozenset(f"{_ENGLISH} {_GERMAN_DUTCH} {_SCANDINAVIAN} {_ROMANCE}".split())
STOPS, WIDE_STOPS = r".!?\u2026", r"\u3002\uff01\uff1f"
CLOSERS, WIDE_CLOSERS = r"\"'\u201d\u2019\u00bb)\]", r"\u300d\u300f\u201d\u2019\uff09"
ITEM = r"[^\S\n]*(?:[-*+\u2022\u2013\u00b7\u25aa\u25e6]|\d{1,3}[.)])[^\S\n]+\S"
"""The beginning of a line that is an item of a list: a dash, bullet or number."""
_CANDIDATE = re.compile(
    rf"(?P<stop>[{STOPS}]+)[{CLOSERS}]*(?=\s)"  # the end of a sentence, perhaps
    rf"|[{WIDE_STOPS}]+[{WIDE_CLOSERS}]*"
    r"|\n[^\S\n]*(?=\n)"  # an empty line
    rf"|\n(?={ITEM})"
)
_WORD_BEFORE = re.compile(r"[^\W_]+(?:\.[^\W_]+)*$")
_LINE_NUMBER = re.compile(r"(?:^|\n)[^\S\n]*\d{1,3}$")
_LONGEST_WORD = 24
_LOOK_AHEAD = 16
_SPACE = re.compile(r"\s*")


def sentence_ends(text: str, start: int, end: int) -> Iterator[int]:
    """Places from `start` up to and including `end` at which a sentence is over, in order.

    Args:
        text: the whole text, which is looked at around these places.
        start: first place.
        end: last place.
    """
    for match in _CANDIDATE.finditer(text, max(start - 1, 0), min(end + _LOOK_AHEAD, len(text))):
        if start <= match.end() <= end and not _is_inside(text, match):
            yield match.end()


def _is_inside(text: str, match: re.Match[str]) -> bool:
    """Whether the signs that were found stand within a sentence, which goes on behind them."""
    if match["stop"] is None:
        return False
    stop, after = match.span()
    following = _SPACE.match(text, after)
    next_sign = text[following.end() : following.end() + 1] if following else ""
    if next_sign.islower() or next_sign in (",", ";", ":"):
        return True
    if match[0] != ".":
        return False
    before = text[max(stop - _LONGEST_WORD, 0) : stop]
    word = _WORD_BEFORE.search(before)
    if word is None:
        return False
    last = word[0].rpartition(".")[2]
    is_initial = len(last) == 1 and last.isalpha()
    return is_initial or word[0].lower() in _ABBREVIATIONS or _LINE_NUMBER.search(before) is not None
