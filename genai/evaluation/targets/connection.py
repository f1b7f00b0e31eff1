"""POST JSON to a server over connections that are kept: the only module that imports aiohttp."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from genai.config.secrets import masked
from genai.errors import CredentialsError, MissingExtraError, UsageError
from genai.evaluation.records import Failure
from genai.evaluation.targets.replies import Reply
from genai.evaluation.targets.retrying import Refusal
from genai.storage.http_words import retry_after, words_of

try:
    import aiohttp
except ImportError as error:
    raise MissingExtraError("aiohttp", extra="eval", needed_for="asking an endpoint") from error

_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
_TOO_MANY = frozenset({429, 503, 529})
_MAX_REPLY_BYTES = 256 << 20
_CONNECT_S = 30.0


class Connection:
    """Requests to one server; to be made on an event loop, and closed.

    Args:
        base_url: before every path: https://HOST/v1.
        key: of the server, sent with every request and left out of every message.
        key_reference: what the job file says in its place, for errors.
        limit: connections at once.
        section: of the job file, for errors.
    """

    def __init__(self, *, base_url: str, key: str | None, key_reference: str | None, limit: int, section: str) -> None:
        headers = {"Accept": "application/json", "User-Agent": "genai"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._base_url = base_url
        self._proxy = _proxy_for(base_url)
        self._key = key
        self._key_reference = key_reference
        self._section = section
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=limit),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def post(self, path: str, body: object) -> Reply | Refusal | Failure:
        """What the server answers to one request; a stream is read to its end.

        Raises:
            CredentialsError: the key is missing or was refused.
            UsageError: there is nothing at this URL, or no such model.
        """
        data = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        headers, url = {"Content-Type": "application/json"}, f"{self._base_url}/{path}"
        began = time.perf_counter()
        try:
            # A redirected POST would arrive as a GET without its body, and may carry the key to another host.
            async with self._session.post(
                url, data=data, headers=headers, allow_redirects=False, proxy=self._proxy
            ) as response:
                if response.status != 200:
                    return self._refused(url, response.status, response.headers, await self._said(response))
                if response.content_type == "text/event-stream":
                    return await _read_events(response, began)
                return _whole(await _read(response), time.perf_counter() - began)
        except (aiohttp.ClientError, OSError) as error:
            return Refusal(reason=_reason(error))

    def _refused(self, url: str, status: int, headers: Any, said: str) -> Refusal | Failure:
        """What an answer means that is none."""
        told = f"HTTP {status}{said}"
        if status in _TRANSIENT:
            return Refusal(reason=told, wait_s=retry_after(headers.get("Retry-After")), is_too_many=status in _TOO_MANY)
        if status in (401, 403):
            fix = "is it the right key?" if self._key else f"set {self._section}.api_key: env:NAME"
            raise CredentialsError(f"{shown(url)} refused the key: {told}", where=self._key_reference, fix=fix)
        if status in (404, 405) or 300 <= status < 400:
            fix = f"check {self._section}.endpoint and {self._section}.model"
            raise UsageError(f"{shown(url)} does not serve this: {told}", fix=fix)
        return Failure(reason=told)

    async def _said(self, response: aiohttp.ClientResponse) -> str:
        """The server's own words, if it has any, without the key: some repeat it."""
        told = await response.content.read(1 << 16)
        words = words_of(told.replace(self._key.encode(), b"***") if self._key else told)
        return f": {masked(words)}" if words else ""


def shown(url: str) -> str:
    """A URL as far as it holds no secret."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


async def _read(response: aiohttp.ClientResponse) -> bytes:
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > _MAX_REPLY_BYTES:
            raise aiohttp.ClientPayloadError(f"the answer is longer than {_MAX_REPLY_BYTES >> 20} MiB")
    return b"".join(pieces)


def _whole(text: bytes, latency_s: float) -> Reply | Failure:
    try:
        return Reply(body=json.loads(text), latency_s=latency_s)
    except ValueError:
        return Failure(reason="the answer is no JSON")


async def _read_events(response: aiohttp.ClientResponse, began: float) -> Reply | Refusal | Failure:
    """All events of a stream.

    Source:
        https://html.spec.whatwg.org/multipage/server-sent-events.html, of which OpenAI's servers use lines of data.
    """
    events: list[Any] = []
    times: list[float] = []
    is_whole = False
    async for line in _lines(response):  # to the end, so that the connection can be used again
        data = line[5:].strip() if line.startswith(b"data:") else b""
        if data == b"[DONE]":
            is_whole = True
        elif data:
            try:
                events.append(json.loads(data))
            except ValueError:
                return Failure(reason="an event of the stream is no JSON")
            times.append(time.perf_counter() - began)
    if not is_whole and not (events and _ends(events)):
        return Refusal(reason="the stream broke off")
    return Reply(body=events, latency_s=times[-1] if times else 0.0, event_times_s=tuple(times))


def _ends(events: list[Any]) -> bool:
    """Whether an answer is at its end: some servers leave out the last line, [DONE]."""
    choices = [choice for event in events if isinstance(event, dict) for choice in event.get("choices") or ()]
    return any(isinstance(choice, dict) and choice.get("finish_reason") for choice in choices)


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Of any length: aiohttp's own has a limit."""
    rest = b""
    async for piece in response.content.iter_any():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line
    if rest:
        yield rest


def _proxy_for(url: str) -> str | None:
    """What the environment says (https_proxy, no_proxy). aiohttp's own reading of it would also take passwords from
    ~/.netrc in place of the key.
    """
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def _reason(error: Exception) -> str:
    """A failure without the URL, which some messages repeat."""
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    if isinstance(error, TimeoutError):
        return f"no connection in {_CONNECT_S:g} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server hung up"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer broke off"
    return type(error).__name__
