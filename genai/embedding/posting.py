"""POST JSON to a model's server and take its answer, patiently: busy servers are asked again."""

from __future__ import annotations

import http.client
import json
import random
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from genai.config.secrets import masked, resolve
from genai.errors import CredentialsError, DataError, GenaiError, UsageError
from genai.log import get_logger
from genai.storage.http_words import retry_after, words_of

ATTEMPTS = 6
"""How often a request is sent while the server is busy or does not answer."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0
"""A server that asks for a longer pause is not waited for."""
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
_MAX_ANSWER_BYTES = 512 << 20
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A path of a server, and how it is asked."""

    url: str
    """The whole URL."""
    api_key: str | None
    """env:NAME or file:PATH, resolved for every request; None sends none."""
    timeout_s: float
    """How long an answer may take."""
    section: str
    """Part of the config that it comes from, for errors: embedding, search.reranker."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET without its body, and may carry the key to another host."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


@dataclass(frozen=True)
class _Refusal:
    """An attempt that failed but may go well later."""

    reason: str
    wait_s: float | None = None
    """How long the server asks us to wait."""


def endpoint(base_url: str, path: str, *, api_key: str | None, timeout_s: float, section: str) -> Endpoint:
    """The endpoint at `path` below `base_url`.

    Raises:
        UsageError: the URL is none of http.
    """
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"{masked(base_url)!r} is no URL of a server", where=f"{section}.base_url", fix="write https://HOST/v1"
        )
    return Endpoint(url=f"{base_url.rstrip('/')}/{path}", api_key=api_key, timeout_s=timeout_s, section=section)


def post_json(to: Endpoint, body: object) -> Any:
    """What the server answers.

    A server that is busy (429), fails (5xx) or does not answer is asked again, with pauses that grow, or as long as
    its Retry-After says.

    Raises:
        CredentialsError: the key is missing or was refused.
        UsageError: there is nothing at this URL, or no such model.
        DataError: the server cannot use what was sent.
        GenaiError: it did not answer in the end, or with something that is no JSON.
    """
    key = resolve(to.api_key) if to.api_key else None
    data = json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    pause_s = FIRST_PAUSE_S
    for attempt in range(1, ATTEMPTS + 1):
        answer = _attempt(to, data, key)
        if not isinstance(answer, _Refusal):
            return _parsed(to, answer)
        wait_s = pause_s * random.uniform(0.5, 1.0) if answer.wait_s is None else answer.wait_s
        if attempt == ATTEMPTS or wait_s > LONGEST_PAUSE_S:
            tried = f"asked {attempt} times" if wait_s <= LONGEST_PAUSE_S else f"it asks for a pause of {wait_s:.0f} s"
            raise GenaiError(f"{_shown(to)} does not answer: {answer.reason} ({tried})", fix="try again later")
        _log.warning("%s: %s; trying again in %.1f s", _shown(to), answer.reason, wait_s)
        time.sleep(wait_s)
        pause_s *= 2
    raise AssertionError("the loop returns or raises")


def _attempt(to: Endpoint, data: bytes, key: str | None) -> bytes | _Refusal:
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "genai"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(to.url, data=data, headers=headers, method="POST")
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=to.timeout_s) as response:
            answer: bytes = response.read(_MAX_ANSWER_BYTES)
            return answer
    except urllib.error.HTTPError as error:
        with error:  # it is the answer as well, and holds the connection
            said = _said(error, key)
            if error.code in _TRANSIENT:
                return _Refusal(f"HTTP {error.code}{said}", retry_after(error.headers.get("Retry-After")))
            raise _explained(to, error.code, said) from None
    except (OSError, http.client.HTTPException) as error:
        return _Refusal(_reason(error, to.timeout_s))


def _explained(to: Endpoint, code: int, said: str) -> GenaiError:
    """What an answer means that will not change."""
    if code in (401, 403):
        fix = "is it the right key?" if to.api_key else f"set {to.section}.api_key: env:NAME"
        return CredentialsError(f"{_shown(to)} refused the key: HTTP {code}{said}", where=to.api_key, fix=fix)
    if code in (404, 405) or 300 <= code < 400:
        fix = f"check {to.section}.base_url and {to.section}.model"
        return UsageError(f"{_shown(to)} does not serve this: HTTP {code}{said}", fix=fix)
    return DataError(f"{_shown(to)} cannot use what was sent: HTTP {code}{said}")


def _parsed(to: Endpoint, answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except ValueError:
        fix = f"is {to.section}.base_url right?"
        raise GenaiError(f"{_shown(to)} answered something that is no JSON", fix=fix) from None


def _said(error: urllib.error.HTTPError, key: str | None) -> str:
    """The server's own words, if it has any, without the key: some repeat it."""
    try:
        text = error.read(1 << 16).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return ""
    words = words_of(text.replace(key, "***") if key else text)
    return f", {masked(words)}" if words else ""


def _reason(error: Exception, timeout_s: float) -> str:
    """The failure without the URL, which some messages repeat."""
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        error = error.reason
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return type(error).__name__


def _shown(to: Endpoint) -> str:
    """The URL as far as it holds no secret."""
    parts = urlsplit(to.url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"
