from __future__ import annotations

import re

import pytest

from genai.data.chunking import tokens as tokens_module
from genai.data.chunking.tokens import Tokens


def _words(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]


def test_counting_and_reaching() -> None:
    text = "one two, three"
    tokens = Tokens(text, _words)
    assert tokens.count(0, len(text)) == 4
    assert tokens.count(0, 3) == 1
    assert tokens.count(3, 4) == 0  # the space
    assert tokens.count(1, 5) == 2  # parts of two
    assert tokens.reach(0, 2) == 7
    assert tokens.reach(0, 3) == 9
    assert tokens.reach(0, 4) is None
    assert tokens.filled(0, 2) == 7
    assert tokens.filled(3, 0) == 3
    assert tokens.reach_back(8, 2) == 4
    assert tokens.reach_back(8, 9) == 0
    assert tokens.next_start(0, 14) == 4
    assert tokens.next_start(9, 14) == 14


def test_several_tokens_of_one_character() -> None:
    text = "a😀b"
    tokens = Tokens(text, lambda _: [(0, 1), (1, 2), (1, 2), (1, 2), (2, 3), (3, 3)])
    assert tokens.count(0, 3) == 5
    assert tokens.count(1, 2) == 3
    assert tokens.reach_back(2, 2) == 2  # nothing fits
    assert tokens.reach(0, 2) == 1


def test_long_texts_are_tokenised_in_blocks_that_end_at_white_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_module, "MAX_BLOCK_CHARS", 50)
    text = "some words here, " * 30 + "x" * 200 + "\n\n" + "and more. " * 20
    blocks: list[str] = []

    def offsets(block: str) -> list[tuple[int, int]]:
        blocks.append(block)
        return _words(block)

    tokens = Tokens(text, offsets)
    assert "".join(blocks) == text
    assert max(map(len, blocks)) == 50
    assert tokens.count(0, 17 * 30) == 4 * 30
    assert tokens.count(0, len(text)) >= len(_words(text))
