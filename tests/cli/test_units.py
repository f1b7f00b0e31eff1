from __future__ import annotations

import time

import click
import pytest

from genai_cli.units import format_ago, format_size, parse_age, parse_size


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, "0 B"), (999, "999 B"), (2_500_000, "2.5 MB"), (999_700, "1 MB"), (5e9, "5 GB"), (12e14, "1.2e+03 TB")],
)
def test_sizes(size: float, expected: str) -> None:
    assert format_size(size) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-5, "just now"), (100, "just now"), (130, "2 minutes ago"), (7300, "2 hours ago"), (3 * 86_400, "3 days ago")],
)
def test_ago(seconds: float, expected: str) -> None:
    assert format_ago(time.time() - seconds) == expected


def age(text: str | None) -> float | None:
    return parse_age(click.Context(click.Command("x")), click.Option(["--age"]), text)


def test_ages() -> None:
    assert [age(text) for text in ("30d", " 12H ", "1.5w", "90m", None)] == [2_592_000, 43_200, 907_200, 5400, None]


@pytest.mark.parametrize("text", ["", "30", "d", "30x", "-1d", "1d2h"])
def test_what_is_no_age(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no age"):
        age(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("20GB", 20 * 10**9), ("500MB", 500 * 10**6), ("1.5TiB", int(1.5 * 2**40)), ("7", 7), (" 2 k ", 2000)],
)
def test_sizes_that_are_written(text: str, size: int) -> None:
    assert parse_size(None, None, text) == size  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["big", "20 apples", "-3GB", "1e3", ""])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no size"):
        parse_size(None, None, text)  # type: ignore[arg-type]
