"""The body of a request: JSON, not too big, not too slow; and all of them together not more than memory bears."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from genai.config.serve import LimitsConfig
from genai.config.sizes import parse_size
from genai.serving.errors import ApiError

Body = TypeVar("Body", bytes, bytearray)
Receive = Callable[[], Awaitable[Any]]

_bytes_of = lru_cache(maxsize=16)(parse_size)

_BODIES_AT_ONCE = 32
"""So many bodies of the largest size may be on their way at once."""


class ClientGoneError(Exception):
    """The client left before its request was whole."""


class Bodies:
    """Reads bodies, and knows how much of them is on its way."""

    def __init__(self) -> None:
        self._held_bytes = 0

    async def read(self, receive: Receive, headers: Mapping[bytes, bytes], limits: LimitsConfig) -> bytes:
        """The whole body, once it has come.

        Args:
            receive: of ASGI.
            headers: of the request.
            limits: of the server.

        Raises:
            ApiError: 413, 415, 408, or 429 while too many others are on their way.
            ClientGoneError: it left.
        """
        max_bytes = _bytes_of(limits.max_body)
        _check_headers(headers, max_bytes)
        try:
            async with asyncio.timeout(limits.body_timeout_s):
                return await self._gather(receive, max_bytes)
        except TimeoutError:
            message = f"the request's body did not come within {limits.body_timeout_s:g} s"
            raise ApiError(message, status=408, code="body_timeout") from None

    async def _gather(self, receive: Receive, max_bytes: int) -> bytes:
        body = bytearray()
        try:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise ClientGoneError
                piece = message.get("body", b"")
                body += piece
                self._held_bytes += len(piece)
                _fitting(body, max_bytes)
                if not message.get("more_body"):
                    return bytes(body)
                if self._held_bytes > _BODIES_AT_ONCE * max_bytes:
                    raise ApiError(
                        "too many large requests are on their way; try again",
                        status=429,
                        code="rate_limit_exceeded",
                        headers=((b"retry-after", b"1"),),
                    )
        finally:
            self._held_bytes -= len(body)


def check_whole(body: bytes, headers: Mapping[bytes, bytes], limits: LimitsConfig) -> None:
    """See that a body which has come is one that is taken.

    Raises:
        ApiError: 413 or 415.
    """
    max_bytes = _bytes_of(limits.max_body)
    _check_headers(headers, max_bytes)
    _fitting(body, max_bytes)


def _check_headers(headers: Mapping[bytes, bytes], max_bytes: int) -> None:
    """What can be said of a body before it is read."""
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding.lower() != b"identity":
        raise ApiError("a compressed body is not taken: send it as it is", status=415, code="unsupported_encoding")
    content_type = headers.get(b"content-type")
    # None is taken for JSON: clients that say nothing mean it, and other pages' scripts are stopped by their Origin.
    if content_type is not None and content_type != b"application/json" and not _is_json(content_type):
        message = "the body must be JSON, sent with `Content-Type: application/json`"
        raise ApiError(message, status=415, code="unsupported_media_type")
    length = headers.get(b"content-length")
    if length is not None and int(length) > max_bytes:
        raise _too_large(max_bytes)


def _is_json(content_type: bytes) -> bool:
    kind = content_type.partition(b";")[0].strip().lower()
    return kind == b"application/json" or (kind.startswith(b"application/") and kind.endswith(b"+json"))


def _fitting(body: Body, max_bytes: int) -> Body:
    if len(body) > max_bytes:
        raise _too_large(max_bytes)
    return body


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(f"the request is larger than {max_bytes:,} bytes", status=413, code="request_too_large")
