from __future__ import annotations

from pathlib import Path

import pytest

from genai.errors import DataError
from genai.storage import fetch, open_store
from genai.storage.fetch import _matches, find_objects
from genai.storage.manifest import INCOMPLETE, FolderWriter


def below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_what_is_here_is_not_copied(scheme: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    assert fetch(f"{scheme}{tmp_path}/rows.jsonl", tmp_path / "cache") == tmp_path / "rows.jsonl"
    assert fetch(f"{scheme}{tmp_path}", tmp_path / "cache") == tmp_path
    assert not (tmp_path / "cache").exists()


def test_what_is_not_here_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"there is no {tmp_path}/rows"):
        fetch(str(tmp_path / "rows"), tmp_path / "cache")


@pytest.mark.parametrize(
    ("key", "pattern", "matches"),
    [
        ("a.jsonl", "*.jsonl", True),
        ("a/b.jsonl", "*.jsonl", False),
        ("a/b.jsonl", "*/*.jsonl", True),
        ("a/b/c.jsonl", "**/*.jsonl", True),
        ("c.jsonl", "**/*.jsonl", True),
        ("a/b/c.json", "**/*.jsonl", False),
        ("part-1", "part-[0-3]", True),
        ("part-7", "part-[0-3]", False),
        ("a/b/c", "a/**", True),
    ],
)
def test_patterns_are_those_of_a_shell(key: str, pattern: str, matches: bool) -> None:
    assert _matches(key.split("/"), pattern.split("/")) is matches


@pytest.mark.integration
def test_an_object_is_downloaded_once_for_each_content(bucket: str, tmp_path: Path) -> None:
    store = open_store(bucket)
    store.write("data/rows.jsonl", b"first")
    first = fetch(f"{bucket}/data/rows.jsonl", tmp_path)
    assert first.name == "rows.jsonl"
    assert first.read_bytes() == b"first"
    touched = first.stat().st_mtime_ns
    assert fetch(f"{bucket}/data/rows.jsonl", tmp_path).stat().st_mtime_ns == touched
    store.write("data/rows.jsonl", b"second")
    assert fetch(f"{bucket}/data/rows.jsonl", tmp_path).read_bytes() == b"second"
    assert first.read_bytes() == b"first"


@pytest.mark.integration
def test_a_prefix_and_a_pattern_keep_relative_paths(bucket: str, tmp_path: Path) -> None:
    store = open_store(bucket)
    for key in ("data/a.jsonl", "data/sub/b.jsonl", "data/c.txt", "database"):
        store.write(key, key.encode())
    everything = below(fetch(f"{bucket}/data", tmp_path))
    assert everything == {"a.jsonl": b"data/a.jsonl", "c.txt": b"data/c.txt", "sub/b.jsonl": b"data/sub/b.jsonl"}
    assert set(below(fetch(f"{bucket}/data/*.jsonl", tmp_path))) == {"a.jsonl"}
    assert set(below(fetch(f"{bucket}/*/**/*.jsonl", tmp_path))) == {"data/a.jsonl", "data/sub/b.jsonl"}
    assert "database" in below(fetch(bucket, tmp_path))


@pytest.mark.integration
def test_objects_are_listed_without_being_fetched(bucket: str) -> None:
    store = open_store(bucket)
    for key in ("data/a.jsonl", "data/deep/b.jsonl", "data/c.csv", "other.jsonl"):
        store.write(key, b"x")
    for url, keys in {
        "data/a.jsonl": ["a.jsonl"],
        "data": ["data/a.jsonl", "data/c.csv", "data/deep/b.jsonl"],
        "data/**/*.jsonl": ["a.jsonl", "deep/b.jsonl"],
    }.items():
        assert [info.key for info in find_objects(f"{bucket}/{url}")] == keys
    with pytest.raises(DataError, match="no object 'nothing'"):
        find_objects(f"{bucket}/nothing")


@pytest.mark.integration
def test_nothing_there_is_an_error_with_a_suggestion(bucket: str, tmp_path: Path) -> None:
    open_store(bucket).write("data/rows.jsonl", b"")
    with pytest.raises(DataError, match=r"no object 'row\.jsonl' in .*/data \(did you mean 'rows\.jsonl'\?\)"):
        fetch(f"{bucket}/data/row.jsonl", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.integration
def test_a_folder_that_was_not_written_to_its_end_is_refused(bucket: str, tmp_path: Path) -> None:
    store = open_store(bucket)
    with FolderWriter(store, "model") as writer:
        (writer.path / "weights").write_bytes(b"w")
        writer.commit()
    assert set(below(fetch(f"{bucket}/model", tmp_path))) == {"manifest.json", "weights"}
    store.write(f"model/{INCOMPLETE}", b"{}")
    store.delete("model/manifest.json")
    with pytest.raises(DataError, match="was not written to its end"):
        fetch(f"{bucket}/model", tmp_path)


@pytest.mark.integration
def test_a_key_that_leaves_the_folder_is_refused(s3_bucket: str, tmp_path: Path) -> None:
    import boto3

    client = boto3.client("s3")
    client.put_object(Bucket=s3_bucket.removeprefix("s3://"), Key="data/../../evil", Body=b"")
    client.close()
    with pytest.raises(DataError, match="no safe object key"):
        fetch(f"{s3_bucket}/data", tmp_path / "cache")
    assert not (tmp_path / "evil").exists()
