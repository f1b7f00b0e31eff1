from __future__ import annotations

from pathlib import Path

import pytest

import genai.storage
from genai.errors import DataError, UsageError
from genai.storage.urls import is_remote, join, open_store, split


def test_the_room_exports_what_it_says() -> None:
    assert all(hasattr(genai.storage, name) for name in genai.storage.__all__)


@pytest.mark.parametrize(
    ("url", "remote"),
    [("a/b", False), ("/a", False), ("file:///a", False), ("s3://bucket/x", True), ("gs://bucket", True)],
)
def test_is_remote(url: str, remote: bool) -> None:
    assert is_remote(url) is remote


@pytest.mark.parametrize(
    ("parts", "url"),
    [
        (("s3://bucket", "a", "b"), "s3://bucket/a/b"),
        (("s3://bucket/", "/a/", ""), "s3://bucket/a"),
        (("s3://bucket/x/",), "s3://bucket/x"),
        (("folder", "a/b"), "folder/a/b"),
        (("/", "a"), "/a"),
        (("file:///", "a"), "file:///a"),
    ],
)
def test_join(parts: tuple[str, ...], url: str) -> None:
    assert join(*parts) == url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket/a/b.txt", ("s3://bucket/a", "b.txt")),
        ("s3://bucket/a/", ("s3://bucket", "a")),
        ("s3://bucket", ("s3://bucket", "")),
        ("/a", ("/", "a")),
        ("a", ("a", "")),
        ("a/b", ("a", "b")),
    ],
)
def test_split(url: str, expected: tuple[str, str]) -> None:
    assert split(url) == expected


def test_paths_and_file_urls_open_a_folder(tmp_path: Path) -> None:
    for url in (str(tmp_path), f"file://{tmp_path}"):
        assert open_store(url).url == str(tmp_path)


def test_an_unknown_kind_of_storage_is_named_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"unknown kind of storage 'ftp' \(known: az, file, gs, s3\)"):
        open_store("ftp://host/x")


@pytest.mark.integration
@pytest.mark.parametrize(("scheme", "kind"), [("s3", "bucket"), ("gs", "bucket"), ("az", "container")])
def test_a_bucket_url_without_a_bucket_is_refused(scheme: str, kind: str) -> None:
    with pytest.raises(DataError, match=rf"names no {kind} \(write {scheme}://{kind.upper()}/PATH\)"):
        open_store(f"{scheme}:///path")
