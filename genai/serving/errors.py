"""Errors as OpenAI's API tells them: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import msgspec

from genai.models.generation import Fault

_STATUS = {
    "invalid": 400,
    "too_long": 400,
    "not_found": 404,
    "overloaded": 429,
    "timeout": 504,
    "not_loaded": 503,
    "failed": 500,
}
_CODES = {
    "too_long": "context_length_exceeded",
    "not_found": "model_not_found",
    "overloaded": "rate_limit_exceeded",
    "timeout": "timeout",
    "not_loaded": "model_not_ready",
    "failed": "engine_error",
}
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "invalid_request_error",
    421: "invalid_request_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}


class ApiError(Exception):
    """What is answered instead of a result.

    Args:
        message: for the one who asked: what is wrong and what would be right.
        status: of HTTP.
        param: the part of the request that is to blame, e.g. `messages[0].role`.
        code: for programs, e.g. `context_length_exceeded`.
        headers: of the answer, e.g. Retry-After.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.type = _TYPES.get(status, "server_error")
        self.param = param
        self.code = code
        self.headers = headers


def of_fault(fault: Fault) -> ApiError:
    """What an engine's fault is to the one who asked."""
    headers = ((b"retry-after", b"1"),) if fault.code in ("overloaded", "not_loaded") else ()
    return ApiError(
        fault.message, status=_STATUS[fault.code], param=fault.param, code=_CODES.get(fault.code), headers=headers
    )


def body_of(error: ApiError) -> bytes:
    """The error as JSON."""
    told = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return msgspec.json.encode({"error": told})
