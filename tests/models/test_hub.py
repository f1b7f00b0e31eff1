"""A stand-in for the hub over real HTTP: model info, tree and file endpoints with the headers huggingface_hub reads."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from genai.errors import CredentialsError, DataError, GenaiError, UsageError
from genai.models.gallery import GALLERY
from genai.models.hub import check_weights, fetch_snapshot

COMMIT = "1" * 40
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": b"weights" * 1000,
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"hi",
    "1_Pooling/config.json": b"{}",
    "onnx/config.json": b"{}",
    "pytorch_model.bin": b"pickle",
    "consolidated.safetensors": b"again" * 1000,
    "modeling_own.py": b"import os",
}
TAKEN = {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "1_Pooling/config.json"}


@dataclass
class Hub:
    """What the stand-in serves, and what it was asked for."""

    url: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"org/plain": dict(FILES)})
    gated: set[str] = field(default_factory=set)
    private: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    broken: bool = False


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.hub.asked.append(path)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.hub.tokens.add(token)
        parts = path.removeprefix("api/models/").split("/")
        repository, rest = "/".join(parts[:2]), parts[2:]
        if self.hub.broken:
            return self.send(500, b"{}", body=body)
        if token == "refused":
            return self.send(401, b"{}", body=body, error="Invalid", message="Invalid credentials")
        if repository not in self.hub.repositories or (repository in self.hub.private and token != "good"):
            return self.send(401, b"{}", body=body, error="RepoNotFound")
        files = self.hub.repositories[repository]
        if path.startswith("api/models/"):
            return self.api(repository, rest, files, body=body)
        if repository in self.hub.gated and token != "good":
            return self.send(403, b"{}", body=body, error="GatedRepo")
        content = files.get("/".join(rest[2:]))
        if content is None:
            return self.send(404, b"{}", body=body, error="EntryNotFound")
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        return self.send(200, content, body=body, headers=headers)

    def api(self, repository: str, rest: list[str], files: dict[str, bytes], *, body: bool) -> None:
        revision = rest[1] if len(rest) > 1 else "main"
        if revision not in ("main", COMMIT):
            return self.send(404, b"{}", body=body, error="RevisionNotFound")
        if rest[:1] == ["tree"]:
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in files.items()
            ]
            return self.send(200, json.dumps(tree).encode(), body=body)
        info = {"id": repository, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
        return self.send(200, json.dumps(info).encode(), body=body)

    def send(
        self,
        status: int,
        content: bytes,
        *,
        body: bool,
        error: str | None = None,
        message: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if error:
            self.send_header("X-Error-Code", error)
            self.send_header("X-Error-Message", message or error)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    state = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": state}))
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", state.url)
    # huggingface_hub has read its environment at import, which other tests have caused long ago.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.integration
def test_takes_what_makes_a_model_and_nothing_that_runs(hub: Hub) -> None:
    snapshot = fetch_snapshot("org/plain")
    assert names_in(snapshot.path) == TAKEN
    assert snapshot.commit == COMMIT
    assert (snapshot.path / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    fetched = {path.partition("/resolve/")[2].partition("/")[2] for path in hub.asked if "/resolve/" in path}
    assert fetched == TAKEN


@pytest.mark.integration
def test_planning_needs_no_weights(hub: Hub) -> None:
    assert names_in(fetch_snapshot("org/plain", weights=False).path) == TAKEN - {"model.safetensors"}


@pytest.mark.integration
def test_what_is_here_is_found_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetch_snapshot("org/plain").path
    monkeypatch.setenv("GENAI_OFFLINE", "1")
    asked = len(hub.asked)
    snapshot = fetch_snapshot("org/plain")
    assert (snapshot.path, snapshot.commit, len(hub.asked)) == (path, COMMIT, asked)
    with pytest.raises(GenaiError, match="org/other is not in the cache of the hub, and GENAI_OFFLINE is set"):
        fetch_snapshot("org/other")


@pytest.mark.integration
def test_gated_without_a_token(hub: Hub) -> None:
    hub.gated.add("org/plain")
    with pytest.raises(CredentialsError, match="org/plain is gated and HF_TOKEN is not set") as caught:
        fetch_snapshot("org/plain")
    assert f"ask for access at {hub.url}/org/plain" in str(caught.value.fix)
    assert caught.value.exit_code == 4


@pytest.mark.integration
def test_gated_with_the_wrong_and_the_right_token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated.add("org/plain")
    monkeypatch.setenv("HF_TOKEN", "other")
    with pytest.raises(CredentialsError, match="HF_TOKEN has no access to it"):
        fetch_snapshot("org/plain")
    monkeypatch.setenv("HF_TOKEN", "good")
    assert names_in(fetch_snapshot("org/plain").path) == TAKEN
    assert "good" in hub.tokens


@pytest.mark.integration
def test_a_refused_token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "refused")
    with pytest.raises(CredentialsError, match="refused the token in HF_TOKEN"):
        fetch_snapshot("org/plain")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("repo_id", "revision", "message"),
    [
        ("org/nothing", None, "has no model org/nothing that you may see"),
        ("org/plain", "v9", "org/plain has no revision 'v9'"),
        ("a/b/c", None, "cannot be the name of a model"),
    ],
)
def test_what_the_hub_does_not_have(hub: Hub, repo_id: str, revision: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fetch_snapshot(repo_id, revision=revision)


@pytest.mark.integration
def test_pickles_are_refused_before_anything_is_fetched(hub: Hub) -> None:
    hub.repositories["org/old"] = {"config.json": b"{}", "pytorch_model.bin": b"x"}
    with pytest.raises(DataError, match="pickles only"):
        fetch_snapshot("org/old")
    assert not [path for path in hub.asked if "/resolve/" in path]


@pytest.mark.integration
def test_a_hub_that_fails_or_is_gone(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.broken = True
    with pytest.raises(GenaiError, match="the hub answered 500 for org/plain"):
        fetch_snapshot("org/plain")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(GenaiError, match="the hub cannot be reached for org/plain"):
        fetch_snapshot("org/plain")


@pytest.mark.integration
def test_the_gallery_falls_back_to_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from genai.models.pull import pull, read_provenance

    monkeypatch.setenv("GENAI_GALLERY_BUCKET", str(tmp_path / "no-bucket"))
    hub.repositories[GALLERY["qwen3-0.6b"].hub.repo_id] = dict(FILES)
    folder = pull("qwen3-0.6b")
    assert names_in(folder) == {*TAKEN, "genai-source.json"}
    provenance = read_provenance(folder)
    assert provenance is not None
    assert provenance.source == f"hub Qwen/Qwen3-0.6B@{COMMIT}"


@pytest.mark.integration
def test_a_gated_model_of_the_gallery_exits_with_4(hub: Hub, tmp_path: Path) -> None:
    name = GALLERY["llama-3.2-1b-instruct"].hub.repo_id
    hub.repositories[name] = dict(FILES)
    hub.gated.add(name)
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")}
    ended = subprocess.run(
        [sys.executable, "-m", "genai_cli.main", "models", "pull", "llama-3.2-1b-instruct"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 4
    assert ended.stderr.splitlines()[-1] == (
        f"error: {name} is gated and HF_TOKEN is not set (ask for access at {hub.url}/{name}, then set HF_TOKEN)"
    )
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "names", [["model.safetensors"], ["model-00001-of-00002.safetensors", "x.bin"], ["adapter_model.safetensors"]]
)
def test_safe_weights(names: list[str]) -> None:
    check_weights(names, "org/name")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["pytorch_model.bin"], "pickles only"),
        (["README.md"], "no safetensors"),
        (["onnx/model.safetensors"], "no saf"),
    ],
)
def test_no_safe_weights(names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_weights(names, "org/name")
