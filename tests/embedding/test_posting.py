import email.utils
import json
import socket
import time
from typing import Any

import pytest

from genai.embedding import posting
from genai.embedding.posting import Endpoint, endpoint, post_json
from genai.errors import CredentialsError, DataError, GenaiError, UsageError


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that would have been made."""
    made: list[float] = []
    monkeypatch.setattr(posting.time, "sleep", made.append)
    return made


def to(upstream: Any, *, api_key: str | None = None, timeout_s: float = 5.0) -> Endpoint:
    return endpoint(f"{upstream.url}/", "things", api_key=api_key, timeout_s=timeout_s, section="embedding")


def test_what_is_sent(upstream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", "s3cret")
    upstream.answer = lambda body: {"got": body}
    assert post_json(to(upstream, api_key="env:THE_KEY"), {"a": "ü\ud800"}) == {"got": {"a": "ü?"}}
    path, headers, _ = upstream.requests[0]
    assert path == "/v1/things"
    assert headers["authorization"] == "Bearer s3cret"
    assert headers["content-type"] == "application/json"
    post_json(to(upstream), {})
    assert "authorization" not in upstream.requests[1][1]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 0])
def test_a_busy_server_is_asked_again(upstream: Any, pauses: list[float], status: int) -> None:
    upstream.planned = [(status, {}, b"busy")] * 3
    upstream.answer = lambda body: [1]
    assert post_json(to(upstream), {}) == [1]
    assert len(upstream.requests) == 4
    assert len(pauses) == 3
    assert all(0.25 * 2**n <= pause <= 0.5 * 2**n for n, pause in enumerate(pauses))


def test_as_long_as_the_server_asks(upstream: Any, pauses: list[float]) -> None:
    date = email.utils.formatdate(time.time() + 20, usegmt=True)
    upstream.planned = [(429, {"Retry-After": text}, b"") for text in ("7", date, "soon")]
    post_json(to(upstream), {})
    assert pauses[0] == 7
    assert 15 < pauses[1] <= 20
    assert pauses[2] <= 2


def test_not_longer_than_a_minute(upstream: Any, pauses: list[float]) -> None:
    upstream.planned = [(429, {"Retry-After": "3600"}, b'{"error": {"message": "quota"}}')]
    with pytest.raises(GenaiError, match=r"HTTP 429, quota \(it asks for a pause of 3600 s\)"):
        post_json(to(upstream), {})
    assert pauses == []


def test_not_for_ever(upstream: Any, pauses: list[float]) -> None:
    upstream.planned = [(503, {}, b"")] * 9
    with pytest.raises(GenaiError, match=r"does not answer: HTTP 503 \(asked 6 times\)"):
        post_json(to(upstream), {})
    assert len(upstream.requests) == 6
    assert len(pauses) == 5


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_never_shown(upstream: Any, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", "s3cret")
    said = json.dumps({"error": {"message": "Incorrect API key: s3cret\n\x1b[31m."}}).encode()
    upstream.planned = [(status, {}, said)]
    with pytest.raises(CredentialsError) as caught:
        post_json(to(upstream, api_key="env:THE_KEY"), {})
    assert "s3cret" not in str(caught.value)
    assert str(caught.value).startswith("env:THE_KEY: ")
    assert f"HTTP {status}, Incorrect API key: *** [31m." in str(caught.value)


def test_a_key_that_is_missing(upstream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    upstream.planned = [(401, {}, b"no")]
    with pytest.raises(CredentialsError, match=r"set embedding\.api_key: env:NAME"):
        post_json(to(upstream), {})
    monkeypatch.delenv("THE_KEY", raising=False)
    with pytest.raises(CredentialsError, match="THE_KEY is not set"):
        post_json(to(upstream, api_key="env:THE_KEY"), {})


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (404, UsageError, r"does not serve this: HTTP 404, no such model \(check embedding\.base_url"),
        (302, UsageError, "does not serve this: HTTP 302"),
        (400, DataError, "cannot use what was sent: HTTP 400, no such model"),
        (422, DataError, "HTTP 422, no such model"),
    ],
)
def test_what_does_not_change_is_not_asked_again(
    upstream: Any, pauses: list[float], status: int, error: type[GenaiError], said: str
) -> None:
    upstream.planned = [(status, {"Location": "http://127.0.0.1:9/"}, b'{"message": "no such model"}')]
    with pytest.raises(error, match=said):
        post_json(to(upstream), {})
    assert len(upstream.requests) == 1
    assert pauses == []


@pytest.mark.parametrize("body", [b"<html>", b'{"error": [1]}', b"", b'"just a text"'])
def test_refusals_without_words_for_us(upstream: Any, body: bytes) -> None:
    upstream.planned = [(400, {}, body)]
    with pytest.raises(DataError, match="HTTP 400"):
        post_json(to(upstream), {})


def test_an_answer_that_is_no_json(upstream: Any) -> None:
    upstream.planned = [(200, {}, b"<html>hello")]
    with pytest.raises(GenaiError, match=r"no JSON \(is embedding\.base_url right\?\)"):
        post_json(to(upstream), {})


def test_a_server_that_hangs(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "ATTEMPTS", 2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        silent = endpoint(url, "x", api_key=None, timeout_s=0.05, section="embedding")
        with pytest.raises(GenaiError, match=r"no answer within 0\.05 s \(asked 2 times\)"):
            post_json(silent, {})


def test_nobody_listens(pauses: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    nobody = endpoint(f"http://127.0.0.1:{port}", "x", api_key=None, timeout_s=1, section="embedding")
    with pytest.raises(GenaiError, match=f"http://127.0.0.1:{port}/x does not answer: connection refused"):
        post_json(nobody, {})


@pytest.mark.parametrize("url", ["ftp://host/v1", "host/v1", "http://", "file:///etc"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(UsageError, match=r"search\.reranker\.base_url: .* is no URL of a server"):
        endpoint(url, "x", api_key=None, timeout_s=1, section="search.reranker")
