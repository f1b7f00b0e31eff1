from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from genai.errors import UsageError
from genai.storage.atomic import CACHE_TAG
from genai.storage.cache import collect, list_cache
from genai.storage.locks import lock_file

DAY_S = 86_400.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A cache: models/old (100 bytes, 40 days), data/rows.jsonl (10 bytes, 20 days), tokenized/new (1 kB, now)."""
    root = tmp_path / "cache"
    root.mkdir()
    (root / CACHE_TAG).touch()
    add(root / "models/old/deep/weights", 100, age_days=40)
    add(root / "data/rows.jsonl", 10, age_days=20)
    add(root / "tokenized/new/tokens", 1000, age_days=0)
    return root


def add(path: Path, size_bytes: int, *, age_days: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size_bytes))
    used = time.time() - age_days * DAY_S
    os.utime(path, (used, used - DAY_S))


def names(root: Path) -> list[str]:
    return [f"{entry.kind}/{entry.name}" for entry in list_cache(root)]


def test_entries_are_listed_with_size_and_last_use(root: Path) -> None:
    add(root / "models/old/config", 5, age_days=50)
    entries = list_cache(root)
    assert [(entry.kind, entry.name, entry.size_bytes) for entry in entries] == [
        ("models", "old", 105),
        ("data", "rows.jsonl", 10),
        ("tokenized", "new", 1000),
    ]
    assert [round((time.time() - entry.last_used) / DAY_S) for entry in entries] == [40, 20, 0]
    assert not any(entry.in_use for entry in entries)


def test_a_cache_that_was_never_used_is_empty(tmp_path: Path) -> None:
    assert list_cache(tmp_path / "never") == []
    assert collect(tmp_path / "never", older_than_s=0).removed == ()


@pytest.mark.parametrize(
    ("older_than_s", "max_bytes", "left"),
    [
        (30 * DAY_S, None, ["data/rows.jsonl", "tokenized/new"]),
        (10 * DAY_S, None, ["tokenized/new"]),
        (None, 1110, ["models/old", "data/rows.jsonl", "tokenized/new"]),
        (None, 1109, ["data/rows.jsonl", "tokenized/new"]),
        (None, 1005, ["tokenized/new"]),
        (None, 0, []),
        (10 * DAY_S, 5000, ["tokenized/new"]),
        (None, None, ["models/old", "data/rows.jsonl", "tokenized/new"]),
    ],
)
def test_the_old_go_and_then_the_least_recently_used(
    older_than_s: float | None, max_bytes: int | None, left: list[str], root: Path
) -> None:
    before = names(root)
    planned = collect(root, older_than_s=older_than_s, max_bytes=max_bytes, dry_run=True)
    assert names(root) == before
    done = collect(root, older_than_s=older_than_s, max_bytes=max_bytes)
    assert names(root) == left
    assert planned.removed == done.removed
    assert [f"{entry.kind}/{entry.name}" for entry in done.removed] == [name for name in before if name not in left]


USE = """
import mmap, sys, time
from pathlib import Path
from genai.storage.locks import shared
path = Path(sys.argv[2])
if sys.argv[1] == "lock":
    held = shared(path)
    held.__enter__()
elif sys.argv[1] == "open":
    held = open(path / "deep/weights", "rb")
else:
    with open(path / "deep/weights", "rb") as stream:
        held = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", ["lock", "open", "map"])
def test_what_a_live_process_uses_stays(
    how: str, root: Path, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    with start_python(USE, how, root / "models/old") as user:
        assert user.stdout is not None
        assert user.stdout.readline() == "held\n"
        assert [entry.name for entry in list_cache(root) if entry.in_use] == ["old"]
        done = collect(root, max_bytes=0)
        assert [entry.name for entry in done.in_use] == ["old"]
        assert names(root) == ["models/old"]
    assert [entry.name for entry in collect(root, max_bytes=0).removed] == ["old"]
    assert not lock_file(root / "models/old").exists()


def test_what_dead_processes_left_goes_in_any_case(root: Path) -> None:
    left = root / "models" / ".x.00000001-1-1-00000000.tmp"
    left.mkdir()
    os.utime(left, (0, 0))
    assert collect(root, dry_run=True).leftovers == (left,)
    assert left.exists()
    assert collect(root).leftovers == (left,)
    assert not left.exists()
    assert len(names(root)) == 3


def test_a_folder_that_is_no_cache_is_left_alone(tmp_path: Path) -> None:
    add(tmp_path / "photos" / "2019" / "only copy.jpg", 10, age_days=900)
    with pytest.raises(UsageError, match=r"has no CACHEDIR\.TAG, so it may hold more than a cache"):
        collect(tmp_path, older_than_s=0)
    assert names(tmp_path) == ["photos/2019"]
