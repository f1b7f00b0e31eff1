from __future__ import annotations

from pathlib import Path

import pytest

from genai.config.secrets import is_reference, looks_like_secret, masked, resolve, resolve_all
from genai.errors import CredentialsError


@pytest.mark.parametrize("text", ["env:HF_TOKEN", "env:_x1", "file:/run/secrets/key", "file:key.txt"])
def test_references(text: str) -> None:
    assert is_reference(text) and not looks_like_secret(text, name="token")


@pytest.mark.parametrize("text", ["", "env:", "env:1X", "env:A B", "file:", "file:///data/x", "HF_TOKEN", None, 5])
def test_what_is_no_reference(text: object) -> None:
    assert not is_reference(text)


@pytest.mark.parametrize(
    "text",
    [
        "hf_" + "aB3" * 11,
        "sk-proj-" + "a1" * 20,
        "sk_live_" + "a1" * 10,
        "AKIA" + "A1B2" * 4,
        "ghp_" + "a1" * 18,
        "github_pat_" + "a1" * 20,
        "glpat-" + "a1" * 10,
        "xoxb-" + "1234567890-abc",
        "AIza" + "a1-_" * 9,
        "dapi" + "0a" * 16,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
        "-----BEGIN RSA PRIVATE KEY-----",
        "https://user:pass@example.org/x",
        "postgresql://me:pw@localhost/db",
        "https://hooks.slack.com/services/T0/B0/x",
        "https://discord.com/api/webhooks/12345/abc",
        "https://example.org/hook?token=abcdef",
        "before hf_" + "aB3" * 11 + " after",
    ],
)
def test_literal_keys_are_seen(text: str) -> None:
    assert looks_like_secret(text)
    assert masked(text) == "***"


@pytest.mark.parametrize(
    "text",
    [
        "hf_causal_lm",
        "hf:org/model",
        "sk-learn-of-a-long-name",
        "gallery:smollm2-135m-instruct",
        "https://example.org/a:b/c@d",
        "https://example.org:8080/x",
        "https://${variables.user}:${variables.x}@host/",
        "a1b2c3d4e5f6a1b2c3d4e5f6a1b2c3d4e5f6a1b2",
        "s3://bucket/prefix",
        "me@example.org",
        "?token=x",
    ],
)
def test_ordinary_text_is_not(text: str) -> None:
    assert not looks_like_secret(text)


def test_any_literal_under_a_telling_name_is_a_secret() -> None:
    assert looks_like_secret("abc", name="token")
    assert looks_like_secret("abc", name="API_KEY")
    assert not looks_like_secret("<pad>", name="pad_token")
    assert not looks_like_secret("${variables.x}", name="token")
    assert not looks_like_secret("", name="token")
    assert not looks_like_secret(True, name="token")


def test_resolve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GENAI_TEST_SECRET", "s3cret")
    (tmp_path / "key").write_text("from file\n", encoding="utf-8")
    assert resolve("env:GENAI_TEST_SECRET") == "s3cret"
    assert resolve(f"file:{tmp_path}/key") == "from file"
    assert resolve("plain text") == "plain text"
    nested = {"a": ["env:GENAI_TEST_SECRET", 1], "b": {"c": "env:GENAI_TEST_SECRET"}}
    assert resolve_all(nested) == {"a": ["s3cret", 1], "b": {"c": "s3cret"}}
    assert nested["a"] == ["env:GENAI_TEST_SECRET", 1]


def test_a_missing_secret_names_the_variable_or_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GENAI_TEST_SECRET", raising=False)
    with pytest.raises(CredentialsError, match="GENAI_TEST_SECRET is not set") as missing:
        resolve("env:GENAI_TEST_SECRET")
    assert missing.value.fix == "export GENAI_TEST_SECRET=..." and missing.value.exit_code == 4
    (tmp_path / "empty").write_text(" \n", encoding="utf-8")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("absent", "empty", "binary"):
        with pytest.raises(CredentialsError) as error:
            resolve(f"file:{tmp_path}/{name}")
        assert error.value.where == f"file:{tmp_path}/{name}"
