"""A bucket on a real S3-protocol server; faults are planted in the wire between."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from tcp_wire import Wire

from genai.errors import CredentialsError, DataError, GenaiError
from genai.storage import open_store, patience, ranges, s3

pytestmark = pytest.mark.integration

MIB = 1 << 20


@pytest.fixture
def client(s3_bucket: str) -> Iterator[Any]:
    """boto3's own client, to look at the bucket from outside."""
    import boto3

    with closing(boto3.client("s3")) as client:
        yield client


@pytest.fixture
def many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts as small as the protocol allows."""
    monkeypatch.setattr(s3, "PART_BYTES", 5 * MIB)
    monkeypatch.setattr(ranges, "RANGE_BYTES", 3 * MIB)


def bucket_of(url: str) -> str:
    return url.removeprefix("s3://")


def test_the_prefix_is_part_of_the_key_and_the_sha256_is_kept(s3_bucket: str, client: Any) -> None:
    open_store(f"{s3_bucket}/deep/prefix/").write("key", b"abc")
    found = client.head_object(Bucket=bucket_of(s3_bucket), Key="deep/prefix/key")
    assert found["Metadata"]["sha256"].startswith("ba7816bf8f01cfea")
    assert open_store(f"{s3_bucket}/deep").read("prefix/key") == b"abc"


def test_a_large_file_goes_up_in_parts_with_checksums_and_comes_down_whole(
    s3_bucket: str, client: Any, many_parts: None, tmp_path: Path
) -> None:
    content = os.urandom(11 * MIB)
    (tmp_path / "source").write_bytes(content)
    store = open_store(s3_bucket)
    store.upload("large", tmp_path / "source")
    store.copy("large", "copy")
    store.download("copy", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == content
    found = client.head_object(Bucket=bucket_of(s3_bucket), Key="large", ChecksumMode="ENABLED")
    assert found["ETag"].endswith('-3"')
    assert "ChecksumCRC32" in found
    original, copy = store.stat("large"), store.stat("copy")
    assert original is not None
    assert copy is not None
    assert original.sha256 == copy.sha256 == hashlib.sha256(content).hexdigest()


def test_requests_are_bounded_however_many_threads_download(
    s3_bucket: str, many_parts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "RANGE_BYTES", 1000)
    store = s3.open_s3(s3_bucket)
    store.write("key", os.urandom(10_000))
    store._requests = threading.BoundedSemaphore(3)
    now, most, read = [], [], store._read

    def counted(*arguments: Any) -> bytes:
        now.append(1)
        most.append(len(now))
        try:
            return read(*arguments)
        finally:
            now.pop()

    monkeypatch.setattr(store, "_read", counted)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(store.download, "key", tmp_path / str(number)) for number in range(4)]:
            done.result()
    assert max(most) == 3
    assert len(most) == 40
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_what_is_damaged_at_rest_is_not_downloaded(s3_bucket: str, client: Any, tmp_path: Path) -> None:
    store = open_store(s3_bucket)
    store.write("key", b"right")
    metadata = client.head_object(Bucket=bucket_of(s3_bucket), Key="key")["Metadata"]
    client.put_object(Bucket=bucket_of(s3_bucket), Key="key", Body=b"wrong", Metadata=metadata)
    with pytest.raises(DataError, match="changed or was damaged"):
        store.download("key", tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


def test_pieces_are_all_of_one_version(s3_bucket: str) -> None:
    store = open_store(s3_bucket)
    store.write("key", b"first")
    pieces = store.chunks("key", 2)
    assert next(pieces) == b"fi"
    store.write("key", b"other")
    with pytest.raises(DataError, match="changed by somebody while it was read"):
        next(pieces)


def test_what_an_interrupted_upload_left_is_swept(s3_bucket: str, client: Any) -> None:
    for key in ("ck/ba1/weights", "other"):
        client.create_multipart_upload(Bucket=bucket_of(s3_bucket), Key=key)
    store = open_store(s3_bucket)
    assert store.sweep("ck/") == 1
    left = client.list_multipart_uploads(Bucket=bucket_of(s3_bucket))["Uploads"]
    assert [upload["Key"] for upload in left] == ["other"]
    assert store.sweep() == 1


def test_a_missing_bucket_is_named_by_every_way_to_read(s3_bucket: str, tmp_path: Path) -> None:
    store = open_store(f"{s3_bucket}x/prefix")
    for attempt in (
        store.list,
        lambda: store.read("key"),
        lambda: store.write("key", b""),
        lambda: store.download("key", tmp_path / "x"),
    ):
        with pytest.raises(DataError, match=rf"there is no bucket .* \(did you mean '{bucket_of(s3_bucket)}'\?\)"):
            attempt()


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        (("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), r"no credentials.*\(set AWS_ACCESS_KEY_ID and AWS_SECRET"),
        (("AWS_SECRET_ACCESS_KEY",), r"AWS_SECRET_ACCESS_KEY is missing \(set AWS_SECRET_ACCESS_KEY\)"),
    ],
)
def test_missing_credentials_name_the_variables(
    removed: tuple[str, ...], message: str, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in removed:
        monkeypatch.delenv(name)
    with pytest.raises(CredentialsError, match=message):
        open_store(s3_bucket).list()


def test_wrong_credentials_are_told_from_missing_ones(s3_bucket: str, s3_server: str) -> None:
    def asks_for_credentials_after(requests: str) -> None:
        url, header = f"{s3_server}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(url, requests.encode(), header)).close()

    store = open_store(s3_bucket)
    asks_for_credentials_after("0")
    try:
        with pytest.raises(CredentialsError, match=r"credentials were refused \(InvalidAccessKeyId\)"):
            store.list()
    finally:
        asks_for_credentials_after("inf")


def test_an_unknown_profile_is_a_wrong_setting(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(GenaiError, match=r"AWS settings cannot be used.*nobody"):
        open_store(s3_bucket)


def test_an_endpoint_that_nobody_listens_at_is_named_at_once(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    began = time.monotonic()
    with pytest.raises(GenaiError, match=rf"{endpoint} does not answer.*see AWS_ENDPOINT_URL"):
        open_store(s3_bucket).list()
    assert time.monotonic() - began < 10


@pytest.fixture
def wire(s3_bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    wire = Wire(s3_server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
    yield wire
    wire.close()


def test_connections_that_break_in_the_middle_are_made_again(
    wire: Wire, s3_bucket: str, many_parts: None, tmp_path: Path
) -> None:
    content = os.urandom(11 * MIB)
    (tmp_path / "source").write_bytes(content)
    store = open_store(s3_bucket)
    wire.break_after_bytes = [0, 10, 0]
    store.upload("large", tmp_path / "source")
    for breaks in ([10_000, 3 * MIB], [0, 0, 200_000, MIB]):
        wire.break_after_bytes = list(breaks)
        open_store(s3_bucket).download("large", tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == content
    wire.break_after_bytes = [5 * MIB, 2 * MIB]
    assert b"".join(open_store(s3_bucket).chunks("large")) == content
    assert wire.connections > 10


def test_a_server_that_goes_away_is_waited_for(
    wire: Wire, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store = s3.open_s3(s3_bucket)
    store.write("before", b"1")
    store._client.close()  # else the open connection is still good
    wire.go_away(for_s=1.5)
    store.write("after", b"2")
    assert store.read("after") == b"2"


def test_a_server_that_stays_away_is_given_up(wire: Wire, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 1.5)
    store = s3.open_s3(s3_bucket)
    store.write("before", b"1")
    store._client.close()
    wire.go_away(for_s=600)
    with pytest.raises(GenaiError, match=f"{wire.url} does not answer"):
        store.write("after", b"2")


def test_a_proxy_is_asked(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Proxy(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    with HTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://s3.nowhere.example")
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.server_port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        assert open_store("s3://bucket/a").stat("key") is None
        proxy.shutdown()
    assert asked == ["http://s3.nowhere.example/bucket/a/key"]


def test_a_certificate_is_trusted_only_when_the_variable_names_it(
    s3_bucket: str,
    start_s3_server: Callable[..., AbstractContextManager[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    request += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(request, cwd=tmp_path, check=True, capture_output=True)
    files = ("-s", "-c", str(tmp_path / "cert.pem"), "-k", str(tmp_path / "key.pem"))
    with start_s3_server(*files, scheme="https") as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(GenaiError, match=r"no trusted certificate.*AWS_CA_BUNDLE"):
            open_store("s3://bucket").list()
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "cert.pem"))
        with pytest.raises(DataError, match="there is no bucket"):
            open_store("s3://bucket").list()
