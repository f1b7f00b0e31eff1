"""What in a server's job file contradicts itself, told with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from genai.config.checks_serve import is_loopback
from genai.config.loading import Loaded, load
from genai.config.serve import IndexEndpointConfig, ModelEndpointConfig, ServeConfig
from genai.errors import ConfigError

CHAT = "endpoints: {chat: {type: model, model: gallery:x}"


def read(tmp_path: Path, text: str) -> Loaded[ServeConfig]:
    file = tmp_path / "serve.yaml"
    file.write_text(text)
    return load(file, ServeConfig)


def faults(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as wrong:
        read(tmp_path, text)
    return [problem.line().removeprefix(f"{tmp_path}/") for problem in wrong.value.problems]


def test_what_a_small_file_means(tmp_path: Path) -> None:
    config = read(tmp_path, f"{CHAT}, docs: {{type: index, index: faq}}}}").config
    assert config.listen.host == "127.0.0.1"
    assert isinstance(config.endpoints["chat"], ModelEndpointConfig)
    assert config.endpoints["chat"].engine.name == "local"
    assert isinstance(config.endpoints["docs"], IndexEndpointConfig)
    assert not config.endpoints["docs"].writable


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_on_a_loopback_no_keys_are_needed(tmp_path: Path, host: str) -> None:
    assert is_loopback(host)
    read(tmp_path, f"{{listen: {{host: '{host}'}}, {CHAT}}}}}")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "example.com"])
def test_elsewhere_keys_are(tmp_path: Path, host: str) -> None:
    (line,) = faults(tmp_path, f"{{listen: {{host: '{host}'}}, {CHAT}}}}}")
    assert f"listen.host {host} is reached by other machines, and there are no keys" in line
    read(tmp_path, f"{{listen: {{host: '{host}'}}, {CHAT}}}, apps: {{web: {{key: env:WEB_KEY}}}}}}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("endpoints: {}", "endpoints are empty"),
        ("endpoints: {'a b': {type: model, model: x}}", "'a b' is no name for an endpoint"),
        ("endpoints: {'a/b': {type: index, index: x}}", "'a/b' is no name for an endpoint"),
        (f"{CHAT}, d: {{type: index, index: faq, encoder: chat}}}}", "no endpoint of type encoder named 'chat'"),
        (
            f"{CHAT}, d: {{type: index, index: faq, encoder: minlm}},"
            " minilm: {type: encoder, embedding: {model: gallery:x}}}",
            "did you mean 'minilm'?",
        ),
        ("endpoints: {c: {type: model, model: x, adapters: {c: runs:a}}}", "adapter 'c' has the name of an endpoint"),
        (
            "endpoints: {a: {type: model, model: x, adapters: {l: runs:a}}, b: {type: model, model: x, adapters: "
            "{l: runs:a}}}",
            "adapter 'l' is also one of endpoint 'a'",
        ),
        (
            "endpoints: {a: {type: model, model: x, adapters: {l: runs:a, m: runs:b}, engine: {max_adapters: 1}}}",
            "write engine.max_adapters: 2",
        ),
        (
            "endpoints: {a: {type: model, model: x, engine: {max_num_seqs: 64, max_num_batched_tokens: 32}}}",
            "a step of 32 tokens has no room for 64 answers",
        ),
        (
            "endpoints: {e: {type: encoder, embedding: {model: x, base_url: 'http://localhost:1/v1'}}}",
            "an encoder of another server is not served here",
        ),
        (f"{{{CHAT}}}, apps: {{web: {{key: plain-text}}}}}}", "must be a reference"),
        (f"{{{CHAT}}}, apps: {{web: {{key: env:K, routes: [chatt]}}}}}}", "did you mean 'chat'?"),
        (f"{{{CHAT}}}, admin: {{token: abc}}}}", "token"),
        (f"{{{CHAT}}}, admin: {{token: env:T, port: 8080}}}}", "admin.port is the server's own port"),
        (f"{{{CHAT}}}, listen: {{allowed_origins: ['app.example.com']}}}}", "'app.example.com' is no origin"),
    ],
)
def test_faults(tmp_path: Path, text: str, says: str) -> None:
    lines = faults(tmp_path, text)
    assert len(lines) == 1
    assert lines[0].startswith("serve.yaml:1:")
    assert says in lines[0]
