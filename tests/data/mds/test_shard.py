"""Samples come back; whatever a file holds, reading it ends in a sample or in one line."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genai.data.mds import MDSWriter, Shard, map_file, read_index, read_samples, read_shard
from genai.errors import DataError
from genai.storage import open_store

COLUMNS = {"z": "json", "a": "str", "m": "ndarray", "k": "uint16", "f": "ndarray:float32:2"}


def sample(number: int) -> dict[str, Any]:
    array = np.arange(number + 1, dtype=np.int16)
    return {"z": [number], "a": "é" * number, "m": array, "k": number, "f": np.array([number, 0.5], np.float32)}


def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[key], right[key]) for key in left)


def test_samples_of_many_columns_come_back(make_set: Callable[..., str]) -> None:
    samples = [sample(number) for number in range(20)]
    url = make_set(COLUMNS, samples, size_limit_bytes=700)
    assert len(read_index(url)) > 2
    assert all(same(*pair) for pair in zip(read_samples(url), samples, strict=True))


def test_a_shard_has_a_length_and_ends(make_set: Callable[..., str]) -> None:
    url = make_set({"n": "int"}, [{"n": n} for n in range(3)])
    shard = read_shard(open_store(url), read_index(url)[0])
    assert len(shard) == 3
    assert shard[2] == {"n": 2}
    with pytest.raises(IndexError):
        shard[3]
    with pytest.raises(IndexError):
        shard[-1]


def test_a_map_outlives_its_file(make_set: Callable[..., str]) -> None:
    url = make_set({"n": "int"}, [{"n": 5}])
    (info,) = read_index(url)
    path = Path(url) / info.raw_data.basename
    data = map_file(path, info.raw_data)
    path.unlink()
    assert Shard(data, info, "x")[0] == {"n": 5}
    with pytest.raises(DataError, match="cannot be read: No such file"):
        map_file(path, info.raw_data)


@pytest.mark.parametrize("change", [-1, 1, -1000])
def test_a_file_of_another_size_is_refused(make_set: Callable[..., str], change: int) -> None:
    url = make_set({"n": "int"}, [{"n": n} for n in range(200)])
    (info,) = read_index(url)
    os.truncate(Path(url) / info.raw_data.basename, info.raw_data.size_bytes + change)
    with pytest.raises(DataError, match=r"shard\.00000\.mds.*that index\.json says"):
        list(read_samples(url))


def test_a_file_that_changed_is_found_by_its_hash(make_set: Callable[..., str]) -> None:
    url = make_set({"a": "str"}, [{"a": "abc"}], hashes=["sha1"])
    path = Path(url) / "shard.00000.mds"
    path.write_bytes(path.read_bytes().replace(b"abc", b"abd"))
    assert list(read_samples(url)) == [{"a": "abd"}]
    with pytest.raises(DataError, match=r"shard\.00000\.mds: it is damaged: its sha1"):
        list(read_samples(url, validate_hash="sha1"))


def shard_bytes(tmp_path: Path) -> tuple[bytes, Any]:
    with MDSWriter(str(tmp_path), COLUMNS) as writer:
        for number in range(4):
            writer.write(sample(number))
    (info,) = read_index(str(tmp_path))
    return (tmp_path / info.raw_data.basename).read_bytes(), info


def outcome(data: bytes, info: Any) -> bool:
    """Whether all samples could be read; else there was one line."""
    try:
        list(Shard(data, replace(info, raw_data=replace(info.raw_data, size_bytes=len(data))), "x"))
    except DataError as error:
        assert "\n" not in str(error)
        return False
    return True


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Any]:
    return shard_bytes(tmp_path_factory.mktemp("good"))


@settings(max_examples=300)
@given(st.data())
def test_no_damage_does_more_than_fail(good: tuple[bytes, Any], data: st.DataObject) -> None:
    content, info = bytearray(good[0]), good[1]
    assert outcome(bytes(content), info)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, 60) | st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    outcome(bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))]), info)


@pytest.mark.parametrize("offsets", [[0, 1, 2], [2**32 - 1] * 3, [20, 10, 40]])
def test_offsets_that_lead_astray_are_refused(make_set: Callable[..., str], offsets: list[int]) -> None:
    url = make_set({"n": "int"}, [{"n": 1}, {"n": 2}])
    (info,) = read_index(url)
    path = Path(url) / info.raw_data.basename
    data = path.read_bytes()
    path.write_bytes(data[:4] + np.array(offsets, "<u4").tobytes() + data[16:])
    with pytest.raises(DataError, match="offsets are not in order or lead outside"):
        list(read_samples(url))
