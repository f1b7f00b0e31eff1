from __future__ import annotations

import re

import pytest

from genai.config.sizes import PATTERN, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("10gb", 10 << 30), ("1.5 MB", 3 << 19), ("64kib", 64 << 10), ("7b", 7), ("2TB", 2 << 40), (12, 12)],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size
    assert isinstance(text, int) or re.match(PATTERN, text)


@pytest.mark.parametrize("text", ["", "gb", "10", "-1gb", "0b", "10 gigs", "1e3mb"])
def test_what_is_no_size_is_told_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write a number and a unit: 500mb"):
        parse_size(text)
