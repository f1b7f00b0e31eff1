from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from genai.data.mds import read_index, write_index
from genai.errors import DataError


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 2}', '{"version": 1, "shards": []}', "[" * 100_000, "\xff"]
)
def test_a_damaged_index_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError) as caught:
        read_index(str(tmp_path))
    assert f"{tmp_path}/index.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_entry_is_named(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"version": 2, "shards": [{}]}')
    with pytest.raises(DataError, match=r"index\.json: shard 0: only MDS of version 2"):
        read_index(str(tmp_path))


def test_an_index_comes_back(make_set: Callable[..., str]) -> None:
    url = make_set({"n": "int"}, [{"n": n} for n in range(9)], size_limit_bytes=200, hashes=["sha1"])
    text = (Path(url) / "index.json").read_bytes()
    write_index(url, read_index(url))
    assert (Path(url) / "index.json").read_bytes() == text
