"""A container of Azure Blob Storage as an object store; the only door to adlfs.

The account comes from `AZURE_STORAGE_CONNECTION_STRING`, or from `AZURE_STORAGE_ACCOUNT_NAME` or
`AZURE_STORAGE_ACCOUNT_URL`; the credentials from the connection string, `AZURE_STORAGE_ACCOUNT_KEY`,
`AZURE_STORAGE_SAS_TOKEN`, `AZURE_STORAGE_CLIENT_ID` with its secret and tenant, or what `az login` or the machine in
Azure's cloud give. An emulator is named by a connection string.

Source:
    https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api; uploads in parts are "Put Block" and
    "Put Block List".
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from genai.errors import CredentialsError, DataError, GenaiError, MissingExtraError, UsageError
from genai.storage.base import ObjectInfo
from genai.storage.bucket_errors import Fault, Hints, one_line
from genai.storage.fsspec_store import FsspecStore, split_bucket
from genai.storage.parallel import THREADS
from genai.storage.patience import Call
from genai.storage.upload_journal import Content

_HINTS = Hints(
    credentials=(
        "set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, "
        "or run az login"
    ),
    endpoint="AZURE_STORAGE_CONNECTION_STRING",
)
_ONCE = {"retry_total": 0, "connection_timeout": 10, "read_timeout": 60}
"""Every request is made once: how often it is tried again is the same for all stores."""
_MAX_BLOCKS = 50_000
_SINGLE_BYTES = 1 << 20
"""What is written in one request; more goes as a block."""
_COPY_POLL_S = 0.5
_WRONG_CREDENTIALS = ("AuthenticationFailed", "InvalidAuthenticationInfo")
_BUSY = (408, 429)


def open_azure(url: str) -> FsspecStore:
    """The store of `az://container` or `az://container/prefix`; no request is made yet.

    Raises:
        DataError: no container is named.
        MissingExtraError: adlfs is not installed.
        CredentialsError: no account is named.
        GenaiError: the Azure settings in the environment are wrong.
    """
    name, prefix = split_bucket(url, "az", "container")
    return FsspecStore(AzureBucket(name, _file_system(url)), prefix)


def _file_system(url: str) -> Any:
    try:
        from adlfs import AzureBlobFileSystem
    except ModuleNotFoundError as error:
        raise MissingExtraError("adlfs", extra="azure", needed_for=url) from error
    account = _account(os.environ, url)
    try:
        return AzureBlobFileSystem(**account, use_listings_cache=False, skip_instance_cache=True)
    except ValueError as error:
        raise GenaiError(f"the Azure settings cannot be used: {one_line(error)}", where=url) from error


def _account(environ: Mapping[str, str], url: str) -> dict[str, str]:
    """What adlfs does not find in the environment by itself."""
    if environ.get("AZURE_STORAGE_CONNECTION_STRING"):
        return {}
    if address := environ.get("AZURE_STORAGE_ACCOUNT_URL"):
        parts = urlsplit(address)
        if parts.scheme != "https" or not parts.hostname:
            raise UsageError(
                f"AZURE_STORAGE_ACCOUNT_URL is {address!r}, which is no https:// URL",
                fix="for an emulator set AZURE_STORAGE_CONNECTION_STRING",
            )
        return {"account_name": parts.hostname.partition(".")[0], "account_host": parts.netloc}
    name = environ.get("AZURE_STORAGE_ACCOUNT_NAME") or environ.get("AZURE_STORAGE_ACCOUNT")
    if not name:
        raise CredentialsError("no storage account is named", where=url, fix=_HINTS.credentials)
    return {"account_name": name}


class AzureBucket:
    """The requests of Azure's Blob service. The version of an object is its ETag."""

    scheme = "az"
    hints = _HINTS

    def __init__(self, name: str, file_system: Any) -> None:
        self.name = name
        self._fs = file_system
        self._container = file_system.service_client.get_container_client(name)

    def endpoint(self) -> str:
        return str(self._fs.service_client.url).partition("?")[0].rstrip("/")

    def head(self, name: str) -> ObjectInfo:
        return _info(self._wait(self._blob(name).get_blob_properties(**_ONCE)))

    def read(self, name: str, start: int, end: int | None, etag: str | None) -> bytes:
        from azure.core import MatchConditions
        from azure.core.exceptions import HttpResponseError

        condition = {"etag": etag, "match_condition": MatchConditions.IfNotModified} if etag else {}
        length = None if end is None else end - start

        async def get() -> bytes:
            blob = self._blob(name)
            answer = await blob.download_blob(offset=start, length=length, max_concurrency=1, **condition, **_ONCE)
            return bytes(await answer.readall())

        try:
            return bytes(self._wait(get()))
        except HttpResponseError as error:
            if error.status_code == 416:  # it ends before
                return b""
            raise

    def write(self, name: str, data: bytes, sha256: str) -> None:
        metadata = {"sha256": sha256}
        if len(data) > _SINGLE_BYTES:
            block = _block_id(0, data)
            self._stage(name, block, data)
            return self._commit(name, [block], metadata)
        settings = {"metadata": metadata, "validate_content": True, "max_concurrency": 1}
        self._wait(self._blob(name).upload_blob(data, overwrite=True, **settings, **_ONCE))

    def send(self, name: str, path: Path, content: Content, call: Call) -> None:
        """Blocks are named after what is in them, so the server itself says which are there from an earlier try."""
        size_bytes = max(content.part_bytes, -(-content.size_bytes // _MAX_BLOCKS))
        there = call(lambda: self._uncommitted(name))

        def stage(number: int) -> str:
            with open(path, "rb") as stream:
                stream.seek(number * size_bytes)
                data = stream.read(size_bytes)
            block = _block_id(number, data)
            if there.get(block) != len(data):
                call(lambda: self._stage(name, block, data))
            return block

        before = path.stat()
        pool = ThreadPoolExecutor(THREADS)
        try:
            numbers = range(-(-content.size_bytes // size_bytes))
            blocks = [staged.result() for staged in [pool.submit(stage, number) for number in numbers]]
        finally:
            pool.shutdown(cancel_futures=True)
        if (now := path.stat()).st_size != before.st_size or now.st_mtime_ns != before.st_mtime_ns:
            raise DataError(f"{path} changed while it was uploaded", fix="upload it again")
        call(lambda: self._commit(name, blocks, {"sha256": content.sha256}))

    def pages(self, prefix: str) -> Iterator[ObjectInfo]:
        async def find() -> list[ObjectInfo]:
            found = self._container.list_blobs(name_starts_with=prefix or None, include=["metadata"], **_ONCE)
            # folders of accounts that have real ones, and the empty objects that consoles make in place of them
            return [
                _info(blob)
                async for blob in found
                if not blob.name.endswith("/") and (blob.metadata or {}).get("hdi_isfolder") != "true"
            ]

        yield from self._wait(find())

    def remove(self, name: str) -> None:
        self._wait(self._blob(name).delete_blob(delete_snapshots="include", **_ONCE))

    def copy(self, source: str, target: str) -> None:
        async def copied() -> None:
            blob = self._blob(target)
            state = await blob.start_copy_from_url(self._blob(source).url, **_ONCE)
            status = state["copy_status"]
            while status == "pending":
                await asyncio.sleep(_COPY_POLL_S)
                status = (await blob.get_blob_properties(**_ONCE)).copy.status
            if status != "success":
                raise GenaiError(f"the copy of {source} to {target} ended as {status!r}", fix="try again")

        self._wait(copied())

    def is_there(self) -> bool:
        from azure.core.exceptions import ResourceNotFoundError

        try:
            self._wait(self._container.get_container_properties(**_ONCE))
        except ResourceNotFoundError:
            return False
        return True

    def bucket_names(self) -> list[str]:
        async def names() -> list[str]:
            return [container.name async for container in self._fs.service_client.list_containers(**_ONCE)]

        return list(self._wait(names()))

    def fault(self, error: Exception) -> Fault | None:
        from azure.core import exceptions
        from azure.identity import CredentialUnavailableError

        match error:
            case CredentialUnavailableError():
                return Fault.NO_CREDENTIALS
            case exceptions.HttpResponseError(status_code=int(status)):
                return _fault_of_answer(status, str(getattr(error, "error_code", "") or ""))
            case exceptions.ClientAuthenticationError():
                return Fault.WRONG_CREDENTIALS
            case exceptions.ServiceRequestError():
                return Fault.UNTRUSTED if "CERTIFICATE_VERIFY" in str(error) else Fault.UNREACHABLE
            case exceptions.ServiceResponseError() | exceptions.IncompleteReadError():
                return Fault.BROKEN
            case exceptions.AzureError():
                return Fault.OTHER
        return None

    def _stage(self, name: str, block: str, data: bytes) -> None:
        stream = io.BytesIO(data)  # bytes would be sent in one go, and hold up all other requests meanwhile
        self._wait(self._blob(name).stage_block(block, stream, length=len(data), validate_content=True, **_ONCE))

    def _commit(self, name: str, blocks: Sequence[str], metadata: dict[str, str]) -> None:
        from azure.storage.blob import BlobBlock

        named = [BlobBlock(block) for block in blocks]
        self._wait(self._blob(name).commit_block_list(named, metadata=metadata, **_ONCE))

    def _uncommitted(self, name: str) -> dict[str, int]:
        """Name and size of the blocks that an earlier try left."""
        from azure.core.exceptions import ResourceNotFoundError

        try:
            _, blocks = self._wait(self._blob(name).get_block_list("uncommitted", **_ONCE))
        except ResourceNotFoundError:
            return {}
        return {block.id: block.size for block in blocks}

    def _blob(self, name: str) -> Any:
        return self._container.get_blob_client(name)

    def _wait(self, request: Any) -> Any:
        """The result of a request, which runs in the thread that fsspec has for this."""
        from fsspec.asyn import sync

        async def awaited() -> Any:
            return await request

        return sync(self._fs.loop, awaited)


def _info(found: Any) -> ObjectInfo:
    return ObjectInfo(
        key=found.name,
        size_bytes=found.size,
        modified=found.last_modified.timestamp(),
        etag=found.etag,
        sha256=(found.metadata or {}).get("sha256"),
    )


def _block_id(number: int, data: bytes) -> str:
    """All of one length, as the service asks for."""
    return f"{number:05d}-{hashlib.sha256(data).hexdigest()[:32]}"


def _fault_of_answer(status: int, code: str) -> Fault:
    if status == 404:
        return Fault.NO_BUCKET if code == "ContainerNotFound" else Fault.ABSENT
    if code == "NoAuthenticationInformation":
        return Fault.NO_CREDENTIALS
    if status == 401 or code in _WRONG_CREDENTIALS:
        return Fault.WRONG_CREDENTIALS
    if status == 403:
        return Fault.FORBIDDEN
    if status == 412:
        return Fault.CHANGED
    if code == "Md5Mismatch":
        return Fault.DAMAGED
    return Fault.BROKEN if status >= 500 or status in _BUSY else Fault.OTHER
