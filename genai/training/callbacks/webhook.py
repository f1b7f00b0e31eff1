"""Tell a URL that the job ended or crashed."""

from __future__ import annotations

import http.client
import json
import math
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from genai.log import get_logger
from genai.training.callbacks.base import Callback, EvalInfo, StepInfo

_FAILURES = (OSError, http.client.HTTPException, ValueError)
"""What sending can meet: the network (URLError is an OSError), a broken answer, a URL that is none."""

_log = get_logger(__name__)


class Webhook(Callback):
    """POSTs `{"run", "status", "message", "metrics"}` as JSON at the end of training.

    A webhook that fails is one warning. Path, query and user of the URL hold its secret, so they are never logged.

    Args:
        url: where to, with references already resolved.
        timeout_s: deadline of the whole request.
        run_name: sent as `run`.
    """

    def __init__(self, *, url: str, timeout_s: float, run_name: str) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._run_name = run_name
        self._last: dict[str, float] = {}

    def step_end(self, info: StepInfo) -> Mapping[str, float]:
        """Remember the training loss and the position."""
        self._last.update(batch=info.batch, epoch=info.epoch, tokens=info.tokens, loss=info.loss)
        return {}

    def eval_end(self, info: EvalInfo) -> Mapping[str, float]:
        """Remember the evaluation loss."""
        self._last.update(eval_loss=info.loss, best_eval_loss=info.best_loss)
        return {}

    def fit_end(self, status: str, message: str | None) -> None:
        """Send; a failure is logged as a warning and forgotten."""
        metrics = {name: value if math.isfinite(value) else None for name, value in self._last.items()}
        body = {"run": self._run_name, "status": status, "message": message, "metrics": metrics}
        try:
            _within(self._timeout_s, lambda: _post_json(self._url, body, timeout_s=self._timeout_s))
        except _FAILURES as error:
            _log.warning("webhook to %s failed: %s", _host(self._url), _describe(error))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET without its body, so a redirect is a failure (HTTP 3xx)."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _post_json(url: str, body: Mapping[str, Any], *, timeout_s: float) -> None:
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError("only http and https are spoken")
    data = json.dumps(body, allow_nan=False).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"}, method="POST")
    try:
        urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout_s).close()
    except urllib.error.HTTPError as error:
        error.close()  # it is the answer as well, and holds the connection
        raise


def _within(timeout_s: float, call: Callable[[], None]) -> None:
    """Run `call` with a deadline for the whole of it."""
    # A socket's own timeout covers neither the name lookup nor an answer that comes in a drip of bytes.
    failures: list[Exception] = []

    def run() -> None:
        try:
            call()
        except _FAILURES as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="genai-webhook", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive():
        raise TimeoutError
    if failures:
        raise failures[0]


def _host(url: str) -> str:
    """The part of the URL that holds no secret."""
    try:
        return urlsplit(url).hostname or "an unreadable URL"
    except ValueError:
        return "an unreadable URL"


def _describe(error: Exception) -> str:
    """The failure without the URL, which some messages of urllib and http.client repeat."""
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    if isinstance(error, urllib.error.URLError):
        error = error.reason if isinstance(error.reason, Exception) else error
    if isinstance(error, TimeoutError):
        return "no answer within the deadline"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
