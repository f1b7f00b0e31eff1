from __future__ import annotations

import pytest

from genai.errors import UsageError
from genai.index.sources.patterns import Selection, split_pattern


@pytest.mark.parametrize(
    ("pattern", "taken", "left"),
    [
        ("*.md", ["a.md", "b/c.md"], ["a.txt"]),
        ("**/*.md", ["a.md", "b/c/d.md"], ["a.txt"]),
        ("b/*.md", ["b/c.md"], ["a.md", "b/c/d.md"]),
        ("b/**", ["b/c.md", "b/c/d.md"], ["a.md"]),
        ("b/**/d.md", ["b/d.md", "b/c/d.md"], ["d.md"]),
        ("a?.md", ["ab.md"], ["a.md", "abc.md"]),
        ("[ab].md", ["a.md"], ["c.md"]),
        ("[!ab].md", ["c.md"], ["a.md"]),
        ("a+(1).md", ["a+(1).md"], ["aa(1).md"]),
        ("[.md", ["[.md"], ["a.md"]),
    ],
)
def test_patterns(pattern: str, taken: list[str], left: list[str]) -> None:
    included = Selection([pattern], [])
    assert [path for path in (*taken, *left) if included.takes(path)] == taken
    excluded = Selection([], [pattern])
    assert [path for path in (*taken, *left) if excluded.takes(path)] == left


def test_an_anchored_pattern_begins_at_the_folder() -> None:
    selection = Selection([], ["x.md"], "*.md")
    assert selection.takes("a.md")
    assert not selection.takes("b/a.md")
    assert not selection.takes("x.md")


@pytest.mark.parametrize("path", [".a.md", ".git/a.md", "~$a.docx", "a", "a.png", "a.pdf.tmp"])
def test_what_is_never_taken(path: str) -> None:
    assert not Selection([], []).takes(path)
    assert not Selection(["**/*"], []).takes(path)


def test_endings_in_capitals_are_known() -> None:
    assert Selection([], []).takes("README.MD")


def test_a_pattern_for_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'\.xlsx' is no kind of document"):
        Selection(["**/*.xlsx"], [])


def test_split_pattern() -> None:
    assert split_pattern("docs/*/a.md") == ("docs", "*/a.md")
    assert split_pattern("*.md") == (".", "*.md")
    assert split_pattern("/*.md") == ("/", "*.md")
    assert split_pattern("s3://bucket/docs/**") == ("s3://bucket/docs", "**")
    assert split_pattern("docs/a.md") == ("docs/a.md", None)
