"""What a server's job file names is looked at before anything starts: all that is missing, at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from genai.config.loading import load
from genai.config.serve import ServeConfig
from genai.errors import ConfigError, CredentialsError
from genai.jobs.serve_inputs import check_inputs

CHAT = {"type": "model", "model": "./model"}
KEYS = {"ONE": "first-key-of-an-app", "TWO": "second-key-of-an-app", "SHORT": "short"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and an adapter, which is where the server is started."""
    for name, file in (("model", "config.json"), ("lora", "adapter_config.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text('{"model_type": "llama"}')
    monkeypatch.chdir(tmp_path)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def check(place: Path, *, allow_code: bool = False, **sections: Any) -> None:
    path = place / "serve.yaml"
    path.write_text(json.dumps({"endpoints": {"chat": CHAT}, **sections}))
    check_inputs(load(path, ServeConfig), allow_code=allow_code)


def test_what_is_there_passes(place: Path) -> None:
    check(place, endpoints={"chat": {**CHAT, "adapters": {"legal": "./lora"}, "chat_template": "{{ messages }}"}})
    check(place, apps={"a": {"key": "env:ONE"}, "b": {"key": "env:TWO"}})


def test_everything_that_is_wrong_is_told_at_once_with_its_place(place: Path) -> None:
    endpoints = {
        "chat": {"type": "model", "model": "./modl", "adapters": {"a": "./lra", "b": "./model"}},
        "words": {"type": "encoder", "embedding": {"model": "./nowhere"}},
        "ranker": {"type": "reranker", "model": "./noranker"},
        "docs": {"type": "index", "index": "faq"},
    }
    with pytest.raises(ConfigError) as caught:
        check(place, endpoints=endpoints, apps={"a": {"key": "env:SHORT"}})
    lines = [problem.line() for problem in caught.value.problems]
    assert len(lines) == 7
    assert all("serve.yaml:1:" in line for line in lines)
    for said in ("modl", "lra", "adapter_config.json is missing", "nowhere", "noranker", "faq", "shorter than 16"):
        assert any(said in line for line in lines), said


def test_a_models_own_python_needs_the_command_line(place: Path) -> None:
    endpoints = {"chat": {**CHAT, "trust_remote_code": True}}
    with pytest.raises(ConfigError, match="allow-code"):
        check(place, endpoints=endpoints)
    check(place, endpoints=endpoints, allow_code=True)


def test_a_template_that_is_a_file_must_be_there(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.jinja"):
        check(place, endpoints={"chat": {**CHAT, "chat_template": "nowhere.jinja"}})


def test_keys_must_be_there_and_differ(place: Path) -> None:
    with pytest.raises(CredentialsError, match="NO_SUCH_KEY"):
        check(place, apps={"a": {"key": "env:NO_SUCH_KEY"}})
    apps = {"a": {"key": "env:ONE"}, "b": {"key": "env:ONE"}}
    with pytest.raises(ConfigError, match=r"the same key as apps\.a\.key"):
        check(place, apps=apps)
    with pytest.raises(ConfigError, match=r"the same key as apps\.a\.key"):
        check(place, apps={"a": {"key": "env:ONE"}}, admin={"token": "env:ONE"})
