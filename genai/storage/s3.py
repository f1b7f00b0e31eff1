"""A bucket of any S3-protocol server as an object store; the only door to boto3.

Credentials, region, endpoint (`AWS_ENDPOINT_URL`), proxies (`HTTPS_PROXY`), certificates (`AWS_CA_BUNDLE`), profiles
and retries come from where every AWS tool takes them. An endpoint that is not Amazon's is asked with path-style
addresses unless `~/.aws/config` says otherwise.

What travels carries the checksum that botocore chooses: CRC32 of every request and part; for servers that refuse it,
set `AWS_REQUEST_CHECKSUM_CALCULATION=when_required`. What is stored carries its SHA-256, which `download` compares.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from genai.errors import DataError, GenaiError, MissingExtraError
from genai.storage.base import CHUNK_BYTES, ObjectInfo, check_key
from genai.storage.checksums import sha256_of
from genai.storage.parallel import THREADS
from genai.storage.patience import Patience, Trouble
from genai.storage.ranges import REQUESTS, download_ranges
from genai.storage.s3_errors import about_credentials, explain, is_absent, is_transient, is_unreachable
from genai.storage.s3_upload import PartUpload, part_size
from genai.storage.upload_journal import Content, open_journal

T = TypeVar("T")

PART_BYTES = 16 << 20
"""What an upload sends in one request; a larger file goes in parts, several at a time."""
_SHA256 = "sha256"
_MAX_SUGGESTED = 1000


def open_s3(url: str) -> S3Store:
    """The store of `s3://bucket` or `s3://bucket/prefix`; no request is made yet.

    Raises:
        DataError: no bucket is named.
        MissingExtraError: boto3 is not installed.
        GenaiError: the AWS settings in the environment or in ~/.aws are wrong or incomplete.
    """
    bucket, _, prefix = url.removeprefix("s3://").rstrip("/").partition("/")
    if not bucket:
        raise DataError(f"{url!r} names no bucket", fix="write s3://BUCKET/PATH")
    return S3Store(bucket, check_key(prefix) if prefix else "", _client(url))


def _client(url: str) -> Any:
    try:
        import boto3.session
        import botocore.exceptions
        import botocore.session
        from botocore.config import Config
    except ModuleNotFoundError as error:
        raise MissingExtraError("boto3", extra="s3", needed_for=url) from error
    try:
        profile = botocore.session.get_session()
        session = boto3.session.Session(botocore_session=profile)
        settings: dict[str, Any] = {
            "retries": {"mode": os.environ.get("AWS_RETRY_MODE", "standard")},
            "connect_timeout": 10,
            "max_pool_connections": REQUESTS,
        }
        client = session.client("s3", config=Config(**settings))
        styled = "addressing_style" in (profile.get_scoped_config().get("s3") or {})
        if "amazonaws.com" not in client.meta.endpoint_url and not styled:
            client = session.client("s3", config=Config(s3={"addressing_style": "path"}, **settings))
    except (botocore.exceptions.BotoCoreError, ValueError) as error:
        refused = about_credentials(error, url)
        raise refused or GenaiError(f"the AWS settings cannot be used: {error}", where=url) from error
    return client


class S3Store:
    """Objects are those of `bucket` whose key begins with `prefix/`."""

    def __init__(self, bucket: str, prefix: str, client: Any) -> None:
        self._bucket = bucket
        self._root = f"{prefix}/" if prefix else ""
        self._client = client
        self._patience = Patience(self.url, self._understand)
        self._requests = threading.BoundedSemaphore(REQUESTS)

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._root}".rstrip("/")

    def endpoint(self) -> str:
        """The server's URL, for messages."""
        return str(self._client.meta.endpoint_url)

    def bucket_names(self) -> list[str]:
        """What buckets there are, as far as we may know; for suggestions."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return [bucket["Name"] for bucket in self._client.list_buckets()["Buckets"]]
        except (BotoCoreError, ClientError):
            return []

    def nearby_keys(self, key: str) -> list[str]:
        """Some keys of the same folder; for suggestions."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return [info.key for info in self._pages(key.rpartition("/")[0], _MAX_SUGGESTED)]
        except (BotoCoreError, ClientError):
            return []

    def local_path(self, key: str) -> None:
        return None

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        return self._read(key, start, end, {})

    def chunks(self, key: str, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        info = self._existing(key)
        same_version = {"IfMatch": info.etag} if info.etag else {}
        for start in range(0, info.size_bytes, chunk_bytes):
            yield self._read(key, start, start + chunk_bytes, same_version)

    def write(self, key: str, data: bytes) -> None:
        self._put(key, data, hashlib.sha256(data).hexdigest())

    def upload(self, key: str, path: Path, *, sha256: str | None = None) -> None:
        sha256, size_bytes = sha256 or sha256_of(path), path.stat().st_size
        if size_bytes <= PART_BYTES:
            return self._put(key, path.read_bytes(), sha256)
        content = Content(sha256=sha256, size_bytes=size_bytes, part_bytes=part_size(size_bytes, PART_BYTES))
        with open_journal(f"{self.endpoint()} {self.url}/{key}") as journal:
            PartUpload(
                client=self._client,
                at=self._at(key),
                path=path,
                content=content,
                metadata={_SHA256: sha256},
                journal=journal,
                call=self._patience.for_key(key),
            ).run()

    def download(self, key: str, path: Path) -> None:
        info = self._existing(key)
        same_version = {"IfMatch": info.etag} if info.etag else {}

        def read(start: int, end: int) -> bytes:
            with self._requests:
                return self._read(key, start, end, same_version)

        download_ranges(info, path, read, url=f"{self.url}/{key}")

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        return self._call(None, lambda: list(self._pages(prefix)))

    def stat(self, key: str) -> ObjectInfo | None:
        return self._call(key, lambda: self._head(key))

    def delete(self, key: str) -> None:
        self._call(key, lambda: self._client.delete_object(**self._at(key)))

    def copy(self, source_key: str, target_key: str) -> None:
        source, target = self._at(source_key), self._at(target_key)
        sha256 = self._existing(source_key).sha256
        # a copy in parts does not bring the metadata along by itself
        extra = {"Metadata": {_SHA256: sha256}, "MetadataDirective": "REPLACE"} if sha256 else {}
        self._call(source_key, lambda: self._client.copy(source, **target, ExtraArgs=extra, Config=_transfer()))

    def sweep(self, prefix: str = "") -> int:
        def abort_all() -> int:
            pages = self._client.get_paginator("list_multipart_uploads")
            found = pages.paginate(Bucket=self._bucket, Prefix=self._root + prefix).search("Uploads[]")
            uploads = [(upload["Key"], upload["UploadId"]) for upload in found if upload]
            for key, upload_id in uploads:
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)
            return len(uploads)

        return self._call(None, abort_all)

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._root + check_key(key)}

    def _put(self, key: str, data: bytes, sha256: str) -> None:
        metadata = {_SHA256: sha256}
        self._call(key, lambda: self._client.put_object(**self._at(key), Body=data, Metadata=metadata))

    def _read(self, key: str, start: int, end: int | None, conditions: dict[str, str]) -> bytes:
        if end is not None and end <= start:
            return b""
        whole = start == 0 and end is None
        asked = {} if whole else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}

        def get() -> bytes:
            try:
                return bytes(self._client.get_object(**self._at(key), **asked, **conditions)["Body"].read())
            except self._client.exceptions.ClientError as error:
                if error.response["Error"]["Code"] in ("InvalidRange", "416"):
                    return b""
                raise

        return self._call(key, get)

    def _head(self, key: str) -> ObjectInfo | None:
        try:
            found = self._client.head_object(**self._at(key))
        except self._client.exceptions.ClientError as error:
            if is_absent(error):
                return None
            raise
        return _info(key, found, found["ContentLength"], found.get("Metadata", {}).get(_SHA256))

    def _existing(self, key: str) -> ObjectInfo:
        """Like `stat`, but an absent object raises; a read of nothing tells a missing bucket from a missing key."""
        info = self.stat(key)
        if info is None:
            self.read(key, 0, 1)
            raise DataError(f"{self.url}/{key} vanished or appeared while it was looked at", fix="try again")
        return info

    def _pages(self, prefix: str, limit: int | None = None) -> Iterator[ObjectInfo]:
        pages = self._client.get_paginator("list_objects_v2")
        asked = pages.paginate(Bucket=self._bucket, Prefix=self._root + prefix, PaginationConfig={"MaxItems": limit})
        for found in asked.search("Contents[]"):
            if found and not found["Key"].endswith("/"):  # consoles make empty objects in place of folders
                yield _info(found["Key"].removeprefix(self._root), found, found["Size"], None)

    def _call(self, key: str | None, operation: Callable[[], T]) -> T:
        """Carry out `operation`; botocore tries a request again first, then we do."""
        return self._patience.call(key, operation)

    def _understand(self, error: Exception, key: str | None) -> Trouble | None:
        from botocore.exceptions import BotoCoreError, ClientError
        from s3transfer.exceptions import S3CopyFailedError  # type: ignore[import-untyped]

        if not isinstance(error, (BotoCoreError, ClientError, S3CopyFailedError)):
            return None
        return Trouble(
            cause=error,
            transient=is_transient(error),
            unreachable=is_unreachable(error),
            explain=lambda: explain(error, self, key),
        )


def _transfer() -> Any:
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=THREADS)


def _info(key: str, found: dict[str, Any], size_bytes: int, sha256: str | None) -> ObjectInfo:
    return ObjectInfo(
        key=key, size_bytes=size_bytes, modified=found["LastModified"].timestamp(), etag=found["ETag"], sha256=sha256
    )
