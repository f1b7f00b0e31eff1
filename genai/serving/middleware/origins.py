"""The Origin header: web pages may ask only where the operator allows them (Fetch standard, CORS protocol)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from genai.serving.errors import ApiError

Headers = tuple[tuple[bytes, bytes], ...]

_EXPOSED = b"x-request-id, retry-after"
_MAX_AGE_S = b"600"


class Origins:
    """Which web pages may ask.

    Args:
        allowed: origins such as https://app.example.com; "*" for any.
    """

    def __init__(self, allowed: Sequence[str]) -> None:
        self._is_open = "*" in allowed
        self._allowed = frozenset(origin.rstrip("/").lower() for origin in allowed)

    def check(self, origin: bytes | None) -> Headers:
        """What the answer says to the browser; nothing without an Origin, which only browsers send.

        Raises:
            ApiError: 403 for a page that may not ask.
        """
        if origin is None:
            return ()
        if self._is_open:
            return ((b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", _EXPOSED))
        if origin.lower().decode("latin-1") not in self._allowed:
            raise ApiError(
                "web pages of this origin may not ask; the operator can add it to listen.allowed_origins",
                status=403,
                code="origin_not_allowed",
            )
        return (
            (b"access-control-allow-origin", origin),
            (b"vary", b"origin"),
            (b"access-control-expose-headers", _EXPOSED),
        )


def preflight(allow: str, headers: Mapping[bytes, bytes]) -> Headers:
    """What a browser that asks whether it may ask is told, beside `Origins.check`.

    Args:
        allow: methods of the path.
        headers: of the request.
    """
    wanted = headers.get(b"access-control-request-headers", b"")
    answer: Headers = ((b"access-control-allow-methods", allow.encode()), (b"access-control-max-age", _MAX_AGE_S))
    if wanted and wanted.isascii() and wanted.decode().isprintable():
        answer += ((b"access-control-allow-headers", wanted),)
    return answer
