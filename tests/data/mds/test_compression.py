from __future__ import annotations

import gzip
import sys

import pytest

from genai.data.mds.compression import compress, decompress, parse_compression
from genai.errors import DataError, MissingExtraError, UsageError

DATA = b"shards of tokens " * 1000


@pytest.mark.parametrize("name", ["zstd", "zstd:19", "gz", "gz:1", "bz2", "bz2:9"])
def test_data_comes_back(name: str) -> None:
    packed = compress(name, DATA)
    assert len(packed) < len(DATA) // 4
    assert decompress(name, packed, len(DATA), "x") == DATA


@pytest.mark.parametrize("name", ["zstd", "gz", "bz2"])
def test_damage_is_one_line(name: str) -> None:
    packed = compress(name, DATA)
    for damaged in (packed[: len(packed) // 2], b"\x00" + packed[1:], b"", packed[:-30] + b"\xff" * 30):
        with pytest.raises(DataError) as caught:
            decompress(name, damaged, len(DATA), "s3://b/x")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["zstd", "gz", "bz2"])
def test_no_more_is_unpacked_than_the_index_says(name: str) -> None:
    bomb = compress(name, bytes(50_000_000))
    with pytest.raises(DataError, match="more than the 1000 bytes in index"):
        decompress(name, bomb, 1000, "x")


def test_several_frames_are_one_content() -> None:
    assert decompress("gz", gzip.compress(b"a") + gzip.compress(b"b"), 2, "x") == b"ab"
    assert decompress("zstd", compress("zstd", b"a") + compress("zstd", b"b"), 2, "x") == b"ab"


@pytest.mark.parametrize("name", ["br", "snappy", "zstd:0", "zstd:23", "zstd:x", "zstd:", "gz:10", ""])
def test_others_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is not supported"):
        parse_compression(name)


def test_without_zstandard_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingExtraError, match=r"genai-foundry\[streaming\]"):
        compress("zstd", b"")
