"""Bearer keys: `Authorization: Bearer KEY`, or `api-key: KEY` as Azure's clients send it."""

from __future__ import annotations

from collections.abc import Mapping

from genai.serving.caller import ANYBODY, KeyRing
from genai.serving.errors import ApiError
from genai.serving.exchange import Caller

_CHALLENGE = ((b"www-authenticate", b"Bearer"),)


def identify(ring: KeyRing, headers: Mapping[bytes, bytes]) -> Caller:
    """Who asks.

    Raises:
        ApiError: 401 without a key that is known.
    """
    if ring.is_open:
        return ANYBODY
    key = _key_in(headers)
    if key is None:
        message = "there is no key with this request: send it as `Authorization: Bearer KEY`"
        raise ApiError(message, status=401, code="missing_api_key", headers=_CHALLENGE)
    caller = ring.find(key)
    if caller is None:
        message = "the key that came with this request is not known here"
        raise ApiError(message, status=401, code="invalid_api_key", headers=_CHALLENGE)
    return caller


def _key_in(headers: Mapping[bytes, bytes]) -> bytes | None:
    authorization = headers.get(b"authorization")
    if authorization is None:
        return headers.get(b"api-key")
    scheme, _, key = authorization.partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else None
