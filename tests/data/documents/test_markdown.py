from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.data.documents.markdown import parse_markdown


def _headings(text: str) -> list[tuple[int, str]]:
    document = parse_markdown(text)
    return [(section.level, section.title) for section in document.sections]


@pytest.mark.parametrize(
    ("text", "headings"),
    [
        ("# One\ntext\n## Two ##\n", [(1, "One"), (2, "Two")]),
        ("   ### Three\n    # code\n\t# code\n", [(3, "Three")]),
        ("#no\n####### no\n#\n", []),
        ("# The `run` of [links](x) and **bold**", [(1, "The run of links and bold")]),
        ("```\n# code\n```\n# text\n", [(1, "text")]),
        ("~~~~ python\n# code\n~~~\n# still code\n~~~~\n# text", [(1, "text")]),
        ("```not `a` fence\n# text", [(1, "text")]),
        ("```\n# never closed\n", []),
        ("Title\n=====\ntext\n\nSub\n---\n", [(1, "Title"), (2, "Sub")]),
        ("- item\n---\n> quote\n---\n| a | b |\n---\n\n---\n# a\n---\n", [(1, "a")]),
        ("<!-- # no -->\n# yes\n<!--\n# no\n-->\n", [(1, "yes")]),
        ("`<!--` is how it begins\n# yes\n", [(1, "yes")]),
        ("<!-- never closed\n# yes\n", [(1, "yes")]),
        ("---\ntitle: x\n# comment\n---\n# yes\n", [(1, "yes")]),
    ],
)
def test_headings(text: str, headings: list[tuple[int, str]]) -> None:
    assert _headings(text) == headings


def test_what_says_nothing_is_blanked_out_in_place() -> None:
    text = "---\ntitle: x\n---\n# Head\n\nText <!-- not\nthis --> that.\n\n```html\n<!-- kept -->\n```\n"
    document = parse_markdown(text)
    assert len(document.text) == len(text)
    assert document.text.split() == ["#", "Head", "Text", "that.", "```html", "<!--", "kept", "-->", "```"]
    assert document.text[document.sections[0].start :].startswith("# Head")


@given(st.text(alphabet="#`~<!->=- \n\x0cab"))
def test_text_stays_in_its_place(text: str) -> None:
    document = parse_markdown(text)
    assert len(document.text) == len(text)
    assert all(mine in (theirs, " ") for mine, theirs in zip(document.text, text, strict=True))
    starts = [section.start for section in document.sections]
    assert starts == sorted(set(starts))
    assert all(re.search(r"\w|\S", section.title) for section in document.sections)
