import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from genai.embedding.tuning.score_cache import ScoreCache, key_of
from genai.errors import DataError


def test_what_was_written_is_there_for_the_next_one(tmp_path: Path) -> None:
    keys = [key_of("q", str(number)) for number in range(1200)]
    ScoreCache(tmp_path / "new" / "scores.sqlite").write({key: 0.1 * row for row, key in enumerate(keys[:1100])})
    cache = ScoreCache(tmp_path / "new" / "scores.sqlite")
    assert cache.read(keys) == {key: 0.1 * row for row, key in enumerate(keys[:1100])}
    cache.write({keys[0]: 7.0, keys[1199]: 8.0})
    assert cache.read([keys[0], keys[1199], keys[1150]]) == {keys[0]: 0.0, keys[1199]: 8.0}
    assert cache.read([]) == {}


def test_a_write_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path / "scores.sqlite")
    with pytest.raises(DataError, match=r"the kept scores cannot be used: .*type 'complex'"):
        cache.write({b"a": 1.0, b"b": 1j})  # type: ignore[dict-item]
    assert cache.read([b"a", b"b"]) == {}


def test_threads_may_share_it(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path / "scores.sqlite")
    keys = [key_of("q", str(number)) for number in range(40)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: cache.write({key: 1.0}), keys))
    assert len(cache.read(keys)) == 40


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "scores.sqlite").write_bytes(b"no database at all " * 100)
    with pytest.raises(DataError, match=r"scores\.sqlite: the kept scores cannot be used: .*remove it"):
        ScoreCache(tmp_path / "scores.sqlite")


def test_keys_tell_the_border_between_query_and_text() -> None:
    assert len({key_of("ab", "c"), key_of("a", "bc"), key_of("", "abc"), key_of("abc", "")}) == 4
    assert key_of("\ud800", "x") != key_of("?", "x")
    assert sqlite3.sqlite_version_info >= (3, 8, 2)  # WITHOUT ROWID
