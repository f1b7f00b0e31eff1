"""Large files to a bucket of an S3-protocol server: in parts that are sent again only where the server lacks them.

An upload that is interrupted stays with the server, which bills its parts, and in the journal of this machine. The next
upload of the same content to the same key asks which parts are there, compares their checksums with the file, and sends
the others. `sweep` ends it for good, as does a rule of the bucket for incomplete uploads.

Source:
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html; at most 10,000 parts.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genai.errors import DataError
from genai.storage.parallel import THREADS
from genai.storage.patience import Call
from genai.storage.upload_journal import Begun, Content, UploadJournal

MAX_PARTS = 10_000
_CHECKSUM = "ChecksumCRC32"


@dataclass(frozen=True, kw_only=True)
class PartUpload:
    """One upload in parts."""

    client: Any
    """boto3's."""
    at: Mapping[str, str]
    """Bucket and Key, as the client takes them."""
    path: Path
    content: Content
    """What the file holds."""
    metadata: Mapping[str, str]
    """Kept with the object."""
    journal: UploadJournal
    """The page of this bucket and key."""
    call: Call

    def run(self) -> None:
        """Send what the server lacks, and make the object of it.

        Raises:
            DataError: the file changed meanwhile.
            GenaiError: the server does not take it. What it took is not sent again by the next `run`.
        """
        upload, there = self._resumed() or (self._begun(), {})
        numbers = range(1, -(-self.content.size_bytes // self.content.part_bytes) + 1)
        before = self.path.stat()
        pool = ThreadPoolExecutor(THREADS)
        try:
            parts = [pool.submit(self._send, upload, number, there.get(number)) for number in numbers]
            sent = [part.result() for part in parts]
        finally:
            pool.shutdown(cancel_futures=True)
        if (now := self.path.stat()).st_size != before.st_size or now.st_mtime_ns != before.st_mtime_ns:
            self.abort(upload)
            raise DataError(f"{self.path} changed while it was uploaded", fix="upload it again")
        self.call(lambda: self._complete(upload, sent))
        self.journal.end()

    def abort(self, upload: str) -> None:
        """Let the server drop the parts, if it still has them."""

        def drop() -> None:
            with suppress(self.client.exceptions.NoSuchUpload):
                self.client.abort_multipart_upload(**self.at, UploadId=upload)

        self.call(drop)
        self.journal.end()

    def _resumed(self) -> tuple[str, dict[int, dict[str, Any]]] | None:
        """An upload of this content that was begun, and its parts by number; one of other content is ended."""
        found = self.journal.begun()
        if found is None:
            return None
        if found.content != self.content:
            self.abort(found.upload)
            return None
        parts = self.call(lambda: self._list(found.upload))
        return None if parts is None else (found.upload, parts)

    def _list(self, upload: str) -> dict[int, dict[str, Any]] | None:
        """The parts that the server has; None when it knows of no such upload."""
        try:
            pages = self.client.get_paginator("list_parts").paginate(**self.at, UploadId=upload)
            return {part["PartNumber"]: part for part in pages.search("Parts[]") if part}
        except self.client.exceptions.NoSuchUpload:
            return None

    def _begun(self) -> str:
        settings: dict[str, Any] = {"Metadata": dict(self.metadata)}
        if self.client.meta.config.request_checksum_calculation == "when_supported":
            settings["ChecksumAlgorithm"] = "CRC32"
        upload = self.call(lambda: self.client.create_multipart_upload(**self.at, **settings))["UploadId"]
        self.journal.note(Begun(upload=upload, content=self.content))
        return str(upload)

    def _send(self, upload: str, number: int, there: Mapping[str, Any] | None) -> dict[str, Any]:
        """Send a part unless the server has the same; what `_complete` must say of it."""
        data = self._part(number)
        part = there if there is not None and _is_same(there, data) else None
        if part is None:
            asked = {**self.at, "UploadId": upload, "PartNumber": number}
            part = self.call(lambda: self.client.upload_part(**asked, Body=data))
        named = {"PartNumber": number, "ETag": part["ETag"]}
        return {**named, _CHECKSUM: part[_CHECKSUM]} if _CHECKSUM in part else named

    def _part(self, number: int) -> bytes:
        with open(self.path, "rb") as stream:
            stream.seek((number - 1) * self.content.part_bytes)
            return stream.read(self.content.part_bytes)

    def _complete(self, upload: str, parts: list[dict[str, Any]]) -> None:
        try:
            self.client.complete_multipart_upload(**self.at, UploadId=upload, MultipartUpload={"Parts": parts})
        except self.client.exceptions.NoSuchUpload:  # the answer to the first try was lost, perhaps
            if self.client.head_object(**self.at)["Metadata"] != self.metadata:
                raise


def part_size(size_bytes: int, wanted_bytes: int) -> int:
    """Bytes of a part, so that there are at most `MAX_PARTS`; whole MiB where it must be more than is wanted."""
    least = -(-size_bytes // MAX_PARTS)
    return wanted_bytes if least <= wanted_bytes else -(-least // (1 << 20)) << 20


def _is_same(part: Mapping[str, Any], data: bytes) -> bool:
    """Whether the server's part has the bytes of ours, as far as its checksums tell."""
    if part["Size"] != len(data):
        return False
    if _CHECKSUM in part:
        return bool(part[_CHECKSUM] == base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode())
    return bool(part["ETag"].strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest())
