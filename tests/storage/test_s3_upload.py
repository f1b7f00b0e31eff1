"""Uploads in parts that are interrupted, against a real S3-protocol server."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tcp_wire import Wire

from genai.errors import DataError
from genai.storage import open_store, s3
from genai.storage.s3_upload import MAX_PARTS, _is_same, part_size

MIB = 1 << 20
PARTS = 8

UPLOAD = """
import sys
from pathlib import Path
from genai.storage import open_store, s3
s3.PART_BYTES = 5 << 20
open_store(sys.argv[1]).upload("large", Path(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("size_bytes", "expected"),
    [
        (1, 16 * MIB),
        (MAX_PARTS * 16 * MIB, 16 * MIB),
        (MAX_PARTS * 16 * MIB + 1, 17 * MIB),
        (5 << 40, 525 * MIB),
    ],
)
def test_there_are_never_more_parts_than_the_protocol_allows(size_bytes: int, expected: int) -> None:
    assert part_size(size_bytes, 16 * MIB) == expected
    assert -(-size_bytes // expected) <= MAX_PARTS


@pytest.mark.parametrize(
    ("part", "same"),
    [
        ({"Size": 9, "ETag": '"x"', "ChecksumCRC32": "y/Q5Jg=="}, True),
        ({"Size": 9, "ETag": '"25f9e794323b453885f5181f1b624d0b"', "ChecksumCRC32": "AAAAAA=="}, False),
        ({"Size": 9, "ETag": '"25f9e794323b453885f5181f1b624d0b"'}, True),
        ({"Size": 9, "ETag": '"encrypted"'}, False),
        ({"Size": 8, "ETag": '"25f9e794323b453885f5181f1b624d0b"'}, False),
    ],
)
def test_a_part_is_the_same_when_its_checksum_is(part: dict[str, Any], same: bool) -> None:
    assert _is_same(part, b"123456789") is same


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(s3, "PART_BYTES", 5 * MIB)
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom((PARTS - 1) * 5 * MIB + 1000))
    return path


@pytest.fixture
def client(s3_bucket: str) -> Iterator[Any]:
    import boto3

    with closing(boto3.client("s3")) as client:
        yield client


@pytest.fixture
def interrupted(
    s3_bucket: str,
    s3_server: str,
    client: Any,
    small_parts: None,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    start_python: Callable[..., subprocess.Popen[str]],
) -> Iterator[int]:
    """How many parts the server has of an upload whose process was killed in the middle."""
    bucket, wire = s3_bucket.removeprefix("s3://"), Wire(s3_server)
    wire.stop_after_bytes = 26 * MIB  # four parts at a time, so two are complete at least, and not all
    monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
    with start_python(UPLOAD, s3_bucket, source) as process:
        while (there := len(parts_of(client, bucket))) < 2:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.kill()
    wire.stop_after_bytes = None
    wire.break_all()
    time.sleep(0.5)  # what was on its way has arrived
    there = len(parts_of(client, bucket))
    assert 2 <= there < PARTS
    yield there
    wire.close()


def parts_of(client: Any, bucket: str) -> list[dict[str, Any]]:
    uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    if not uploads:
        return []
    found = client.list_parts(Bucket=bucket, Key="large", UploadId=uploads[0]["UploadId"])
    return list(found.get("Parts", []))


def counted(store: Any) -> list[int]:
    """Fills with the numbers of the parts that `store` sends from now on."""
    sent: list[int] = []
    store._client.meta.events.register(
        "before-parameter-build.s3.UploadPart", lambda params, **_: sent.append(params["PartNumber"])
    )
    return sent


@pytest.mark.integration
def test_a_killed_upload_goes_on_and_sends_only_what_the_server_lacks(
    interrupted: int, s3_bucket: str, source: Path, tmp_path: Path, client: Any
) -> None:
    store = open_store(s3_bucket)
    sent = counted(store)
    store.upload("large", source)
    assert len(sent) == PARTS - interrupted
    store.download("large", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    assert parts_of(client, s3_bucket.removeprefix("s3://")) == []
    assert list((tmp_path / "cache" / "uploads").iterdir()) == []


@pytest.mark.integration
def test_other_content_begins_anew_and_the_old_parts_are_dropped(
    interrupted: int, s3_bucket: str, source: Path, client: Any
) -> None:
    source.write_bytes(source.read_bytes()[::-1])
    store = open_store(s3_bucket)
    sent = counted(store)
    store.upload("large", source)
    assert sorted(sent) == list(range(1, PARTS + 1))
    assert store.read("large") == source.read_bytes()
    assert parts_of(client, s3_bucket.removeprefix("s3://")) == []


@pytest.mark.integration
def test_an_upload_that_was_swept_meanwhile_begins_anew(interrupted: int, s3_bucket: str, source: Path) -> None:
    store = open_store(s3_bucket)
    assert store.sweep() == 1
    sent = counted(store)
    store.upload("large", source)
    assert len(sent) == PARTS
    assert store.read("large") == source.read_bytes()


@pytest.mark.integration
def test_a_part_that_is_damaged_there_is_sent_again(
    interrupted: int, s3_bucket: str, source: Path, tmp_path: Path, client: Any
) -> None:
    (page,) = (tmp_path / "cache" / "uploads").glob("*.json")
    at = {"Bucket": s3_bucket.removeprefix("s3://"), "Key": "large", "UploadId": json.loads(page.read_text())["upload"]}
    first = client.list_parts(**at)["Parts"][0]
    client.upload_part(**at, PartNumber=first["PartNumber"], Body=b"x" * first["Size"])
    store = open_store(s3_bucket)
    sent = counted(store)
    store.upload("large", source)
    assert first["PartNumber"] in sent
    assert len(sent) == PARTS - interrupted + 1
    assert store.read("large") == source.read_bytes()


@pytest.mark.integration
def test_a_file_that_changes_while_it_goes_up_is_refused(
    s3_bucket: str, small_parts: None, source: Path, client: Any
) -> None:
    store = open_store(s3_bucket)
    store._client.meta.events.register(  # type: ignore[attr-defined]
        "before-parameter-build.s3.UploadPart", lambda **_: os.utime(source, ns=(1, 1))
    )
    with pytest.raises(DataError, match=f"{source} changed while it was uploaded"):
        store.upload("large", source)
    assert store.stat("large") is None
    assert parts_of(client, s3_bucket.removeprefix("s3://")) == []
