from __future__ import annotations

import pytest

from genai.config.serve import AppConfig
from genai.errors import ConfigError, CredentialsError
from genai.serving.caller import KeyRing, callers_of
from genai.serving.exchange import Caller


def test_a_key_finds_its_app(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST", "key-1")
    monkeypatch.setenv("SECOND", "key-2")
    apps = {"one": AppConfig(key="env:FIRST"), "two": AppConfig(key="env:SECOND", routes=["faq"])}
    ring = KeyRing(callers_of(apps))
    assert ring.find(b"key-1") == Caller("one")
    second = ring.find(b"key-2")
    assert second is not None and second.may_ask("faq") and not second.may_ask("other")
    assert ring.find(b"key-3") is None and ring.find(b"") is None
    assert not ring.is_open


def test_others_take_their_place() -> None:
    ring = KeyRing({"old": Caller("a")})
    ring.replace({"new": Caller("b")})
    assert ring.find(b"old") is None and ring.find(b"new") == Caller("b")


def test_without_apps_it_is_open() -> None:
    assert KeyRing({}).is_open


def test_all_that_is_wrong_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAME", "key-1")
    monkeypatch.setenv("BROKEN", "a\nb")
    apps = {name: AppConfig(key=f"env:{key}") for name, key in (("a", "SAME"), ("b", "SAME"), ("c", "BROKEN"))}
    with pytest.raises(ConfigError) as caught:
        callers_of(apps)
    assert [problem.where for problem in caught.value.problems] == ["apps.b.key", "apps.c.key"]
    assert "key-1" not in str(caught.value)


def test_a_key_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    with pytest.raises(CredentialsError):
        callers_of({"a": AppConfig(key="env:NOWHERE")})
