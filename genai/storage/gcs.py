"""A bucket of Google Cloud Storage as an object store; the only door to gcsfs.

Credentials are Google's application default ones: `GOOGLE_APPLICATION_CREDENTIALS`, else those that `gcloud auth
application-default login` left, else those of the machine in Google's cloud. `STORAGE_EMULATOR_HOST` leads to an
emulator, which is asked without any.

What is stored carries its SHA-256, which `download` compares.

Source:
    https://cloud.google.com/storage/docs/json_api/v1; uploads in parts are
    https://cloud.google.com/storage/docs/performing-resumable-uploads.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import secrets
import ssl
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from genai.errors import CredentialsError, DataError, GenaiError, MissingExtraError
from genai.log import get_logger
from genai.storage.base import ObjectInfo
from genai.storage.bucket_errors import Fault, Hints, one_line
from genai.storage.fsspec_store import FsspecStore, split_bucket
from genai.storage.patience import Call
from genai.storage.upload_journal import Begun, Content, UploadJournal, open_journal

_HINTS = Hints(
    credentials="set GOOGLE_APPLICATION_CREDENTIALS, or run gcloud auth application-default login",
    endpoint="STORAGE_EMULATOR_HOST",
)
_TYPE = "application/octet-stream"
_BUSY = (408, 429)
_SESSION_GONE = (404, 410)
_log = get_logger(__name__)
_CONNECT_S = 10.0
_READ_S = 60.0


def open_gcs(url: str) -> FsspecStore:
    """The store of `gs://bucket` or `gs://bucket/prefix`; the bucket is not asked for anything yet.

    Raises:
        DataError: no bucket is named.
        MissingExtraError: gcsfs is not installed.
        CredentialsError: there are no credentials, or they cannot be read.
    """
    name, prefix = split_bucket(url, "gs", "bucket")
    return FsspecStore(GcsBucket(name, _file_system(url)), prefix)


def _file_system(url: str) -> Any:
    try:
        import aiohttp
        import google.auth.exceptions
        from gcsfs.core import GCSFileSystem
    except ModuleNotFoundError as error:
        raise MissingExtraError("gcsfs", extra="gcs", needed_for=url) from error

    class Once(GCSFileSystem):  # type: ignore[misc]
        """Asks once: how often, and what it says of it, is the same for all stores."""

        _request = GCSFileSystem._request.__wrapped__

    try:
        return Once(
            token="anon" if os.environ.get("STORAGE_EMULATOR_HOST") else "google_default",
            use_listings_cache=False,
            skip_instance_cache=True,
            requests_timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_READ_S),
            session_kwargs={"trust_env": True},  # proxies
        )
    except (google.auth.exceptions.GoogleAuthError, ValueError, OSError) as error:
        said = f"there are no credentials: {one_line(error)}"
        raise CredentialsError(said, where=url, fix=_HINTS.credentials) from error


class _SessionGoneError(GenaiError):
    """Google has dropped an upload in parts, as it does after a week.

    The session's URL is not told: whoever knows it may write.
    """

    def __init__(self, where: str) -> None:
        super().__init__("Google has dropped the upload", where=where, fix="upload it again")


class GcsBucket:
    """The requests of Google's JSON API. The version of an object is its generation."""

    scheme = "gs"
    hints = _HINTS

    def __init__(self, name: str, file_system: Any) -> None:
        self.name = name
        self._fs = file_system

    def endpoint(self) -> str:
        return str(self._fs._location)

    def head(self, name: str) -> ObjectInfo:
        return self._info(self._fs.call("GET", "b/{}/o/{}", self.name, name, json_out=True))

    def read(self, name: str, start: int, end: int | None, etag: str | None) -> bytes:
        headers = {} if start == 0 and end is None else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        media = f"{self.endpoint()}/download/storage/v1/b/{{}}/o/{{}}"
        try:
            _, data = self._fs.call("GET", media, self.name, name, headers=headers, alt="media", generation=etag)
            return bytes(data)
        except FileNotFoundError as error:
            if etag is None:
                raise
            raise FileExistsError(f"generation {etag} of {name} is gone") from error
        except Exception as error:
            if _status(error) == 416:  # it ends before
                return b""
            raise

    def write(self, name: str, data: bytes, sha256: str) -> None:
        md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()  # compared by the server
        about = json.dumps({"name": name, "metadata": {"sha256": sha256}, "md5Hash": md5}).encode()
        border = secrets.token_hex(16).encode()
        body = io.BytesIO()  # bytes would be sent in one go, and hold up all other requests meanwhile
        body.write(b"--%b\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n%b\r\n" % (border, about))
        body.write(b"--%b\r\nContent-Type: %b\r\n\r\n" % (border, _TYPE.encode()))
        body.write(data)
        body.write(b"\r\n--%b--" % border)
        headers = {"Content-Type": f"multipart/related; boundary={border.decode()}"}
        target = f"{self.endpoint()}/upload/storage/v1/b/{{}}/o"
        self._fs.call("POST", target, self.name, uploadType="multipart", headers=headers, data=body)

    def send(self, name: str, path: Path, content: Content, call: Call) -> None:
        """One part after the other, as Google takes them; a later try goes on after the last part that it took."""
        with open_journal(f"{self.endpoint()}/{self.name}/{name}") as journal:
            found = journal.begun()
            try:
                if found is not None and found.content == content:
                    self._send_rest(found, path, call, journal)
                    # A part that Google took and this machine did not hear of is sent again. Google passes over it,
                    # emulators may not.
                    if call(lambda: self.head(name)).size_bytes == content.size_bytes:
                        return
            except _SessionGoneError:
                _log.debug("the upload of %s that was begun is gone; it begins anew", name)
            session = call(lambda: self._begin(name, content))
            self._send_rest(Begun(upload=session, content=content), path, call, journal)

    def _send_rest(self, begun: Begun, path: Path, call: Call, journal: UploadJournal) -> None:
        size_bytes = begun.content.size_bytes
        with open(path, "rb") as stream:
            while begun.sent_bytes < size_bytes:
                journal.note(begun)
                stream.seek(begun.sent_bytes)
                data = stream.read(begun.content.part_bytes)
                if not data:
                    raise DataError(f"{path} changed while it was uploaded", fix="upload it again")
                sent_bytes = call(partial(self._send_part, begun.upload, data, begun.sent_bytes, size_bytes))
                begun = replace(begun, sent_bytes=sent_bytes)
        journal.end()

    def pages(self, prefix: str) -> Iterator[ObjectInfo]:
        token = None
        while True:
            asked = {"prefix": prefix or None, "pageToken": token}
            page = self._fs.call("GET", "b/{}/o", self.name, json_out=True, **asked)
            # consoles make empty objects in place of folders
            yield from (self._info(item) for item in page.get("items", []) if not item["name"].endswith("/"))
            token = page.get("nextPageToken")
            if not token:
                return

    def remove(self, name: str) -> None:
        self._fs.call("DELETE", "b/{}/o/{}", self.name, name)

    def copy(self, source: str, target: str) -> None:
        self._fs.cp_file(f"{self.name}/{source}", f"{self.name}/{target}")

    def is_there(self) -> bool:
        try:
            self._fs.call("GET", "b/{}", self.name)
        except FileNotFoundError:
            return False
        return True

    def bucket_names(self) -> list[str]:
        if not self._fs.project:
            return []
        page = self._fs.call("GET", "b", json_out=True, project=self._fs.project)
        return [bucket["name"] for bucket in page.get("items", [])]

    def fault(self, error: Exception) -> Fault | None:
        import aiohttp
        import google.auth.exceptions
        import requests.exceptions
        from fsspec.exceptions import FSTimeoutError
        from gcsfs.retry import HttpError, NonRetryableError

        anonymous = self._fs.credentials.credentials is None
        match error:
            case FileNotFoundError():
                return Fault.ABSENT
            case FileExistsError():  # gcsfs's word for a condition that does not hold
                return Fault.CHANGED
            case HttpError():
                return _fault_of_status(_status(error), anonymous=anonymous)
            case ssl.SSLError() | aiohttp.ClientSSLError():
                return Fault.UNTRUSTED
            case aiohttp.ClientConnectorError() | google.auth.exceptions.TransportError():
                return Fault.UNREACHABLE
            case aiohttp.ClientError() | TimeoutError() | FSTimeoutError() | requests.exceptions.RequestException():
                return Fault.BROKEN
            case google.auth.exceptions.GoogleAuthError() | NonRetryableError():
                return Fault.WRONG_CREDENTIALS
            case OSError() if str(error).startswith("Forbidden"):
                return Fault.NO_CREDENTIALS if anonymous else Fault.FORBIDDEN
            case ValueError() if str(error).startswith("Bad Request"):
                return Fault.OTHER
        return None

    def _begin(self, name: str, content: Content) -> str:
        from fsspec.asyn import sync
        from gcsfs.core import initiate_upload

        metadata = {"sha256": content.sha256}
        return str(sync(self._fs.loop, initiate_upload, self._fs, self.name, name, _TYPE, metadata))

    def _send_part(self, session: str, data: bytes, start: int, size_bytes: int) -> int:
        """How many bytes the server has afterwards: less than all of them when it stopped in the middle."""
        end = start + len(data)
        headers = {"Content-Range": f"bytes {start}-{end - 1}/{size_bytes}", "Content-Type": _TYPE}
        try:
            answer, _ = self._fs.call("PUT", session, headers=headers, data=io.BytesIO(data))
        except Exception as error:
            if isinstance(error, FileNotFoundError) or _status(error) in _SESSION_GONE:
                raise _SessionGoneError(f"gs://{self.name}") from error
            raise
        return _end_of_range(answer) if "Range" in answer else end

    def _info(self, found: dict[str, Any]) -> ObjectInfo:
        return ObjectInfo(
            key=found["name"],
            size_bytes=int(found.get("size", 0)),
            modified=self._fs._parse_timestamp(found["updated"]).timestamp(),
            etag=found["generation"],
            sha256=found.get("metadata", {}).get("sha256"),
        )


def _fault_of_status(status: int, *, anonymous: bool) -> Fault:
    if status in (401, 403) and anonymous:
        return Fault.NO_CREDENTIALS
    if status == 401:
        return Fault.WRONG_CREDENTIALS
    return Fault.BROKEN if status >= 500 or status in _BUSY else Fault.OTHER


def _status(error: Exception) -> int:
    code = str(getattr(error, "code", ""))
    return int(code) if code.isdigit() else 0


def _end_of_range(headers: Any) -> int:
    return int(headers["Range"].rpartition("-")[2]) + 1
