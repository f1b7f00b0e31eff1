from __future__ import annotations

import email.utils
import json
import time
from typing import Any

import pytest

from genai.storage.http_words import retry_after, words_of


def test_retry_after() -> None:
    assert retry_after(None) is None
    assert retry_after(" 7 ") == 7
    assert retry_after("0.5") == 0.5
    assert retry_after("soon") is None
    date = email.utils.formatdate(time.time() + 20, usegmt=True)
    assert 15 < (retry_after(date) or 0) <= 20
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "too long"}}, "too long"),
        ({"error": "too long"}, "too long"),
        ({"object": "error", "message": " too\x1b[31m \n long "}, "too [31m long"),
        ({"detail": "too long"}, "too long"),
        ({"detail": [{"msg": "x"}]}, ""),
        (["x"], ""),
        ({"error": "x" * 1000}, "x" * 300),
    ],
)
def test_the_words_of_a_server(body: Any, words: str) -> None:
    assert words_of(json.dumps(body).encode()) == words
    assert words_of(b"<html>") == ""
