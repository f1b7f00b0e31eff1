"""What botocore's exceptions mean for a user: which variable is missing, which bucket was meant, who did not answer.

They are told apart by the names of their classes, so that `genai.storage.s3` stays the only door to boto3.
"""

from __future__ import annotations

from typing import Protocol

from genai.errors import CredentialsError, DataError, GenaiError
from genai.registry import suggest
from genai.storage.base import missing_object

_UNANSWERED = ("ConnectionError", "HTTPClientError", "IncompleteReadError")
_NO_KEYS = ("NoCredentialsError", "CredentialRetrievalError", "TokenRetrievalError", "SSOError")
_DAMAGED = ("ChecksumError", "FlexibleChecksumError")
_CHANGED = ("S3DownloadFailedError", "412", "PreconditionFailed")

_ABSENT = ("404", "NoSuchKey", "NotFound")
_REFUSED = ("401", "403", "AccessDenied", "AllAccessDisabled", "AccountProblem", "Forbidden", "Unauthorized")
_WRONG_KEYS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidClientTokenId")
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired")
_WRONG_REGION = ("301", "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
_NO_CHECKSUMS = ("NotImplemented", "MissingContentLength", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch")
_BUSY = ("SlowDown", "Throttling", "ThrottlingException", "RequestTimeout", "TooManyRequests", "InternalError")

_VARIABLES = {"aws_access_key_id": "AWS_ACCESS_KEY_ID", "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY"}
_SET_KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"


class Described(Protocol):
    """The store that an operation failed in, as far as a message needs it."""

    @property
    def url(self) -> str:
        """The store's root."""

    def endpoint(self) -> str:
        """The server's URL."""

    def bucket_names(self) -> list[str]:
        """The buckets that can be seen."""

    def nearby_keys(self, key: str) -> list[str]:
        """Keys in the folder of `key`."""


def is_absent(error: Exception) -> bool:
    """Whether the server said that there is no such object. A HEAD request says the same of a missing bucket."""
    return _is(error, *_ABSENT)


def is_transient(error: Exception) -> bool:
    """Whether the same request may go well later: nobody answered, the answer broke off, or the server is busy."""
    if _is(error, "SSLError", *_NO_CHECKSUMS):
        return False
    return _is(error, *_UNANSWERED, *_BUSY) or _status(error) >= 500


def is_unreachable(error: Exception) -> bool:
    """Whether there was no connection at all."""
    return _is(error, "ConnectionError")


def explain(error: Exception, store: Described, key: str | None) -> GenaiError:
    """The error to show for `error`, met while asking `store`, for `key` if one object was meant."""
    where = f"{store.url}/{key}" if key else store.url
    if _is(error, "NoSuchBucket"):
        bucket = store.url.removeprefix("s3://").partition("/")[0]
        near = suggest(bucket, store.bucket_names())
        return DataError(f"there is no bucket {bucket!r}", where=where, fix=f"did you mean {near!r}?" if near else None)
    if is_absent(error) and key:
        return missing_object(store.url, key, store.nearby_keys(key))
    return about_credentials(error, where) or _about_the_way(error, store.endpoint(), where)


def about_credentials(error: Exception, where: str) -> CredentialsError | None:
    """The error to show when `error` says that credentials are missing or refused, else None."""
    if _is(error, "PartialCredentialsError"):
        given = str(getattr(error, "kwargs", {}).get("cred_var"))
        name = _VARIABLES.get(given, given)
        return CredentialsError(f"{name} is missing", where=where, fix=f"set {name}")
    if _is(error, *_NO_KEYS):
        return CredentialsError(f"there are no credentials: {error}", where=where, fix=_SET_KEYS)
    if _is(error, *_EXPIRED):
        return CredentialsError("the credentials have expired", where=where, fix=_SET_KEYS)
    if _is(error, *_WRONG_KEYS):
        return CredentialsError(f"the credentials were refused ({_code(error)})", where=where, fix=_SET_KEYS)
    if _is(error, *_REFUSED):
        fix = f"ask for the right to do this, or {_SET_KEYS}"
        return CredentialsError(f"access denied ({_code(error)})", where=where, fix=fix)
    return None


def _about_the_way(error: Exception, endpoint: str, where: str) -> GenaiError:
    if _is(error, "SSLError"):
        return GenaiError(f"{endpoint} shows no trusted certificate: {error}", where=where, fix="set AWS_CA_BUNDLE")
    if _is(error, "ProxyConnectionError"):
        return GenaiError(f"the proxy cannot be reached: {error}", where=where, fix="see HTTPS_PROXY and NO_PROXY")
    if is_transient(error):
        fix = "see AWS_ENDPOINT_URL, the network and HTTPS_PROXY"
        return GenaiError(f"{endpoint} does not answer: {error}", where=where, fix=fix)
    if _is(error, *_WRONG_REGION):
        return GenaiError(f"the bucket is in another region: {error}", where=where, fix="set AWS_REGION")
    if _is(error, *_NO_CHECKSUMS):
        fix = "some servers need AWS_REQUEST_CHECKSUM_CALCULATION=when_required"
        return GenaiError(f"{endpoint} does not take the request: {error}", where=where, fix=fix)
    if _is(error, *_CHANGED):
        return DataError("the object was changed by somebody while it was read", where=where, fix="try again")
    if _is(error, *_DAMAGED):
        return DataError(f"the content was damaged on its way: {error}", where=where, fix="try again")
    return GenaiError(f"{endpoint} refused: {error}", where=where)


def _is(error: Exception, *names: str) -> bool:
    """Whether the server's error code, or a class that `error` is of, has one of these names."""
    return _code(error) in names or any(cls.__name__ in names for cls in type(error).__mro__)


def _code(error: Exception) -> str:
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _status(error: Exception) -> int:
    response = getattr(error, "response", None) or {}
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
