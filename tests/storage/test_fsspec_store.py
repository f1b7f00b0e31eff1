"""Buckets of Google's and Azure's protocols on real servers, beside what `test_base` holds for every store."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tcp_wire import Wire

from genai.errors import DataError, GenaiError
from genai.storage import fetch, fsspec_store, open_store, ranges
from genai.storage.fsspec_store import FsspecStore

pytestmark = pytest.mark.integration

MIB = 1 << 20
SERVERS = {"gs": "gcs_bucket", "az": "azure_container"}


@pytest.fixture(params=list(SERVERS))
def bucket(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(SERVERS[request.param]))


@pytest.fixture
def many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsspec_store, "PART_BYTES", MIB)
    monkeypatch.setattr(ranges, "RANGE_BYTES", 700_000)


def lead_to(url: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send all requests to another address."""
    if bucket.startswith("gs"):
        return monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
    settings = dict(part.split("=", 1) for part in os.environ["AZURE_STORAGE_CONNECTION_STRING"].split(";") if part)
    settings["BlobEndpoint"] = f"{url}/{settings['AccountName']}"
    text = ";".join(f"{name}={value}" for name, value in settings.items())
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)


def address_of(bucket: str) -> str:
    """Of the server that the environment leads to."""
    if bucket.startswith("gs"):
        return os.environ["STORAGE_EMULATOR_HOST"]
    endpoint = os.environ["AZURE_STORAGE_CONNECTION_STRING"].partition("BlobEndpoint=")[2].partition(";")[0]
    return endpoint.rpartition("/")[0]


def raw(store: object) -> fsspec_store.Bucket:
    assert isinstance(store, FsspecStore)
    return store._bucket


def test_the_prefix_is_part_of_the_name_and_the_sha256_is_kept(bucket: str) -> None:
    open_store(f"{bucket}/deep/prefix/").write("key", b"abc")
    found = raw(open_store(bucket)).head("deep/prefix/key")
    assert found.sha256 == hashlib.sha256(b"abc").hexdigest()
    assert open_store(f"{bucket}/deep").read("prefix/key") == b"abc"
    assert open_store(f"{bucket}/deep").url == f"{bucket}/deep"


def test_keys_that_look_like_urls_and_patterns(bucket: str) -> None:
    store = open_store(bucket)
    keys = ["a?versionid=1", "a#1", "a b%20c", "x=1&y=2/[z]*", "+", "ü"]
    for key in keys:
        store.write(key, key.encode())
    assert [info.key for info in store.list()] == sorted(keys)
    for key in keys:
        assert store.read(key) == key.encode()
        assert store.read(key, 1, 2) == key.encode()[1:2]
        store.copy(key, f"copies/{key}")
        assert store.read(f"copies/{key}") == key.encode()
        store.delete(key)
        assert store.stat(key) is None


def test_a_large_file_goes_up_in_parts_and_comes_down_in_ranges(bucket: str, many_parts: None, tmp_path: Path) -> None:
    content = os.urandom(5 * MIB + 12_345)
    (tmp_path / "source").write_bytes(content)
    store = open_store(bucket)
    store.upload("large", tmp_path / "source")
    store.copy("large", "copy")
    store.download("copy", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == content
    original, copy = store.stat("large"), store.stat("copy")
    assert original is not None
    assert copy is not None
    assert original.sha256 == copy.sha256 == hashlib.sha256(content).hexdigest()
    fetched = fetch(f"{bucket}/large", tmp_path / "cache")
    assert fetched.read_bytes() == content
    assert b"".join(store.chunks("large", 900_000)) == content


def test_what_is_damaged_at_rest_is_not_downloaded(bucket: str, tmp_path: Path) -> None:
    store = open_store(bucket)
    raw(store).write("key", b"wrong", hashlib.sha256(b"right").hexdigest())
    with pytest.raises(DataError, match=f"{bucket}/key changed or was damaged"):
        store.download("key", tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


def test_pieces_are_all_of_one_version(bucket: str) -> None:
    store = open_store(bucket)
    store.write("key", b"first")
    pieces = store.chunks("key", 2)
    assert next(pieces) == b"fi"
    store.write("key", b"other")
    with pytest.raises(DataError, match="changed by somebody while it was read"):
        next(pieces)


def test_many_objects_are_listed_whole(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(f"{bucket}/many")
    for number in range(30):
        store.write(f"{number:03d}", b"")
    assert [info.key for info in store.list()] == [f"{number:03d}" for number in range(30)]


def test_a_missing_bucket_is_named_by_every_way_to_read(bucket: str, tmp_path: Path) -> None:
    name = bucket.partition("://")[2]
    store = open_store(f"{bucket}x/prefix")
    near = rf" \(did you mean '{name}'\?\)" if bucket.startswith("az") else ""  # Google lists them for a project only
    for attempt in (
        store.list,
        lambda: store.read("key"),
        lambda: store.write("key", b""),
        lambda: store.download("key", tmp_path / "x"),
    ):
        with pytest.raises(DataError, match=rf"there is no bucket '{name}x'{near}"):
            attempt()
    assert store.stat("key") is None


def test_an_endpoint_that_nobody_listens_at_is_named_at_once(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    lead_to(endpoint, bucket, monkeypatch)
    began = time.monotonic()
    variable = "STORAGE_EMULATOR_HOST" if bucket.startswith("gs") else "AZURE_STORAGE_CONNECTION_STRING"
    with pytest.raises(GenaiError, match=rf"{endpoint}.* does not answer.*see {variable}"):
        open_store(bucket).list()
    assert time.monotonic() - began < 10


@pytest.fixture
def wire(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Wire:
    wire = Wire(address_of(bucket))
    lead_to(wire.url, bucket, monkeypatch)
    return wire


def test_connections_that_break_in_the_middle_are_made_again(
    bucket: str, wire: Wire, many_parts: None, tmp_path: Path
) -> None:
    content = os.urandom(3 * MIB)
    (tmp_path / "source").write_bytes(content)
    store = open_store(bucket)
    store.write("before", b"1")
    wire.break_after_bytes = [0, 10, 0]
    store.upload("large", tmp_path / "source")
    for breaks in ([10_000, 300_000], [0, 0, 200_000]):
        store = open_store(bucket)
        store.read("before")
        wire.break_all()
        wire.break_after_bytes = list(breaks)
        store.download("large", tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == content
    wire.close()


def test_a_server_that_goes_away_is_waited_for(bucket: str, wire: Wire) -> None:
    store = open_store(bucket)
    store.write("before", b"1")
    wire.go_away(for_s=1.5)
    wire.break_all()
    store.write("after", b"2")
    assert store.read("after") == b"2"
    wire.close()


UPLOAD = """
import sys
from pathlib import Path
from genai.storage import fsspec_store, open_store
fsspec_store.PART_BYTES = 1 << 20
open_store(sys.argv[1]).upload("large", Path(sys.argv[2]))
"""


def test_an_upload_that_was_killed_leaves_no_object_and_the_next_one_goes_on_where_it_stopped(
    bucket: str,
    many_parts: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    start_python: Callable[..., subprocess.Popen[str]],
) -> None:
    direct = address_of(bucket)
    wire = Wire(direct)
    content = os.urandom(8 * MIB)
    (tmp_path / "source").write_bytes(content)
    lead_to(wire.url, bucket, monkeypatch)
    wire.stop_after_bytes = 5 * MIB  # Azure takes four blocks at a time, so two are complete at least, and not all
    with start_python(UPLOAD, bucket, tmp_path / "source") as process:
        while wire.sent_bytes < 5 * MIB:
            time.sleep(0.01)
            assert process.poll() is None, process.communicate()
        time.sleep(0.2)
        process.kill()
    # What is still on its way is lost. (fake-gcs-server, unlike Google, puts a part that it is sent twice there twice.)
    wire.break_all()
    wire.stop_after_bytes = None
    time.sleep(0.2)
    before = wire.sent_bytes
    store = open_store(bucket)
    assert store.stat("large") is None
    store.upload("large", tmp_path / "source")
    sent_again = wire.sent_bytes - before
    assert sent_again < 6.5 * MIB, sent_again / MIB
    store.download("large", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == content
    (tmp_path / "source").write_bytes(content[::-1])
    store.upload("large", tmp_path / "source")
    assert store.read("large") == content[::-1]
    wire.close()
