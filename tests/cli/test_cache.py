from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with models/old (2.5 MB, 40 days) and data/new (30 bytes, now)."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("GENAI_CACHE", str(cache))
    from genai.storage.atomic import cache_dir

    assert cache_dir() == cache
    for name, size_bytes, age_days in (("models/old/weights", 2_500_000, 40), ("data/new", 30, 0)):
        path = cache / name
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(size_bytes))
        used = time.time() - age_days * 86_400
        os.utime(path, (used, used))
    return cache


def names(cache: Path) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in cache.glob("*/*")}


def test_ls_shows_what_is_there(cache: Path, genai: Callable[..., Any]) -> None:
    lines = genai("cache", "ls").out.splitlines()
    assert lines[0].split() == ["KIND", "NAME", "SIZE", "LAST", "USED"]
    assert lines[1].split() == ["models", "old", "2.5", "MB", "40", "days", "ago"]
    assert lines[2].split() == ["data", "new", "30", "B", "just", "now"]
    assert lines[3] == f"2.5 MB in {cache}"
    told = genai("cache", "ls", "--json").json
    assert told["size_bytes"] == 2_500_030
    assert [(entry["kind"], entry["name"], entry["in_use"]) for entry in told["entries"]] == [
        ("models", "old", False),
        ("data", "new", False),
    ]


def test_ls_of_an_empty_cache(genai: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "none"))
    assert genai("cache", "ls").out == f"nothing in {tmp_path}/none\n"


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--older-than", "30d"], {"data/new"}),
        (["--older-than", "6w"], {"data/new", "models/old"}),
        (["--older-than", "959h"], {"data/new"}),
        (["--max-size", "1MB"], {"data/new"}),
        (["--max-size", "2.5MiB"], {"data/new", "models/old"}),
        (["--max-size", "0"], set()),
        ([], {"data/new", "models/old"}),
    ],
)
def test_gc_removes_what_the_options_say(
    options: list[str], left: set[str], cache: Path, genai: Callable[..., Any]
) -> None:
    before = names(cache)
    planned = genai("cache", "gc", *options, "--dry-run")
    assert planned.code == 0
    gone = len(before - left)
    assert f"would remove {gone} {'entry' if gone == 1 else 'entries'}, " in planned.out
    assert names(cache) == before
    done = genai("cache", "gc", *options, "--json").json
    assert {f"{entry['kind']}/{entry['name']}" for entry in done["removed"]} == before - left
    assert names(cache) == left


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--older-than", "30"], "'30' is no age: write 30d, 12h, 90m or 2w"),
        (["--older-than", "-3d"], "is no age"),
        (["--max-size", "20 apples"], "'20 apples' is no size: write 20GB, 500MB or 1.5TiB"),
        (["--max-size", "20i"], "is no size"),
    ],
)
def test_a_wrong_option_is_a_usage_error(
    options: list[str], message: str, cache: Path, genai: Callable[..., Any]
) -> None:
    ended = genai("cache", "gc", *options)
    assert ended.code == 2
    assert message in ended.err
    assert len(names(cache)) == 2


def test_gc_refuses_a_folder_that_is_no_cache(
    tmp_path: Path, genai: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos" / "2019").mkdir(parents=True)
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path))
    ended = genai("cache", "gc", "--max-size", "0")
    assert ended.code == 2
    assert "has no CACHEDIR.TAG" in ended.err
    assert (tmp_path / "photos" / "2019").exists()
