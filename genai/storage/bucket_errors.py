"""What went wrong in a bucket of Google or Azure, in the words in which the S3 store says it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from genai.errors import CredentialsError, DataError, GenaiError


class Fault(Enum):
    """What a client library's exception means, whichever library it is."""

    ABSENT = "no such object"
    NO_BUCKET = "no such bucket"
    NO_CREDENTIALS = "there are no credentials"
    WRONG_CREDENTIALS = "the credentials were refused"
    FORBIDDEN = "access denied"
    UNREACHABLE = "there was no connection"
    BROKEN = "no answer, half of one, or the server is busy"
    UNTRUSTED = "no trusted certificate"
    CHANGED = "the object is another now"
    DAMAGED = "a checksum is wrong"
    OTHER = "the server refused the request"

    @property
    def transient(self) -> bool:
        """The same request may go well later."""
        return self in (Fault.UNREACHABLE, Fault.BROKEN)


@dataclass(frozen=True, kw_only=True)
class Hints:
    """What a user of one service can set."""

    credentials: str
    endpoint: str


def about(fault: Fault, said: str, *, where: str, endpoint: str, hints: Hints) -> GenaiError:
    """The error to show for any fault but a missing object or bucket.

    Args:
        fault: what it is.
        said: the library's own words.
        where: URL of the object or the store.
        endpoint: URL of the server.
        hints: of the service.
    """
    match fault:
        case Fault.NO_CREDENTIALS:
            return CredentialsError(f"there are no credentials: {said}", where=where, fix=hints.credentials)
        case Fault.WRONG_CREDENTIALS:
            return CredentialsError(f"the credentials were refused ({said})", where=where, fix=hints.credentials)
        case Fault.FORBIDDEN:
            fix = f"ask for the right to do this, or {hints.credentials}"
            return CredentialsError(f"access denied ({said})", where=where, fix=fix)
        case Fault.UNREACHABLE | Fault.BROKEN:
            fix = f"see {hints.endpoint}, the network and HTTPS_PROXY"
            return GenaiError(f"{endpoint} does not answer: {said}", where=where, fix=fix)
        case Fault.UNTRUSTED:
            return GenaiError(f"{endpoint} shows no trusted certificate: {said}", where=where, fix="set SSL_CERT_FILE")
        case Fault.CHANGED:
            return DataError("the object was changed by somebody while it was read", where=where, fix="try again")
        case Fault.DAMAGED:
            return DataError(f"the content was damaged on its way: {said}", where=where, fix="try again")
    return GenaiError(f"{endpoint} refused: {said}", where=where)


def one_line(error: BaseException, *, longest: int = 300) -> str:
    """What an exception says, on one line, without the pages that some servers append."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= longest else f"{text[:longest]}..."
