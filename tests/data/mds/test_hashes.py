from __future__ import annotations

import hashlib
import sys

import pytest

from genai.data.mds.hashes import hex_digest, verify
from genai.data.mds.shard_info import FileInfo
from genai.errors import DataError, MissingExtraError, UsageError


def test_hashlib_and_xxhash_go_by_their_names() -> None:
    assert hex_digest("sha1", b"abc") == hashlib.sha1(b"abc").hexdigest()
    assert hex_digest("sha256", b"abc") == hashlib.sha256(b"abc").hexdigest()
    pytest.importorskip("xxhash")
    assert hex_digest("xxh64", b"abc") == "44bc2cf5ad770999"


def test_an_unknown_one_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'sha256'"):
        hex_digest("sha265", b"")
    with pytest.raises(UsageError, match="no hash 'shake_128'"):
        hex_digest("shake_128", b"")


def test_without_xxhash_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xxhash", None)
    with pytest.raises(MissingExtraError, match=r"genai-foundry\[streaming\]"):
        hex_digest("xxh64", b"")


def test_a_file_is_held_against_the_index() -> None:
    info = FileInfo(basename="a", size_bytes=3, hashes={"sha1": hashlib.sha1(b"abc").hexdigest()})
    verify(b"abc", info, "sha1", "s3://b/a")
    with pytest.raises(DataError, match="s3://b/a: it is damaged"):
        verify(b"abd", info, "sha1", "s3://b/a")
    with pytest.raises(DataError, match="choose one of: sha1"):
        verify(b"abc", info, "md5", "s3://b/a")
