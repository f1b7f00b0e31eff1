"""`genai serve` as a user and an operator meet it: processes, signals, reloads, falls; a tiny random model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import threading
import time
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from genai_servers import GenaiServer, serving, write_config

from genai.models.quiet import quiet_peft

pytestmark = pytest.mark.integration

KEY, OTHER_KEY, TOKEN = "key-of-the-web-app-1", "key-of-another-app-2", "token-of-the-operator-3"
ENV = {"WEB_KEY": KEY, "OTHER_KEY": OTHER_KEY, "ADMIN_TOKEN": TOKEN}
LONG = {"max_tokens": 200, "ignore_eos": True, "stream": True}


def make_other_model(folder: Path, source: Path) -> Path:
    """A model with other weights and the same tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shutil.copytree(source, folder)
    torch.manual_seed(7)
    LlamaForCausalLM(LlamaConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


def make_adapter(folder: Path, model: Path, *, seed: int = 1, rank: int = 4) -> Path:
    """A LoRA adapter with an effect that greedy answers show."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    targets = ["q_proj", "v_proj", "down_proj"]
    config = LoraConfig(r=rank, lora_alpha=64, target_modules=targets, init_lora_weights=False)
    with quiet_peft(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an old name
        get_peft_model(LlamaForCausalLM.from_pretrained(model), config).save_pretrained(folder)
    return folder


@pytest.fixture
def place(tmp_path: Path, tiny_material: Path) -> Path:
    (tmp_path / "model").symlink_to(tiny_material / "model")
    return tmp_path


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory, tiny_material: Path) -> Path:
    folder = tmp_path_factory.mktemp("material")
    make_other_model(folder / "other", tiny_material / "model")
    make_adapter(folder / "lora", tiny_material / "model")
    make_adapter(folder / "lora2", tiny_material / "model", seed=2)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_material: Path, material: Path) -> Iterator[GenaiServer]:
    """One with keys, an operator, two workers and an adapter, for tests that leave it as it is."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "model").symlink_to(tiny_material / "model")
    write_config(
        folder,
        listen={"port": 0, "workers": 2},
        apps={"web": {"key": "env:WEB_KEY"}, "other": {"key": "env:OTHER_KEY", "routes": ["lora"]}},
        admin={"token": "env:ADMIN_TOKEN", "port": 0},
        endpoints={
            "chat": {
                "type": "model",
                "model": "./model",
                "engine": {"precision": "fp32"},
                "adapters": {"lora": str(material / "lora")},
            },
            "lazy": {"type": "model", "model": str(material / "other"), "load": "lazy", "unload_after_s": 1},
        },
        access_log={"path": "access.jsonl"},
    )
    with serving(folder, "serve.yaml", env=ENV) as running:
        yield running


# --- beginning and end ------------------------------------------------------------------------------------------------


def test_a_model_alone_is_served_and_stopped(place: Path) -> None:
    with serving(place, "./model", "listen.port=0", "num_threads=1", "--json") as server:
        answer = server.ask("/v1/completions", {"model": "model", "prompt": "what is a brick ?", "max_tokens": 4})
        assert answer.status == 200, answer
        assert answer.body["usage"]["completion_tokens"] <= 4
        children = list(server.children().values())
        assert set(server.children()) == {"serve_engine", "serve_worker"}
        assert server.stop() == 0
        assert server.process.stdout is not None
        told = json.loads(server.process.stdout.read())
        assert told["num_restarts"] == 0
        assert told["ready_s"] > 0
        assert not any(child.is_running() for child in children)


@pytest.mark.parametrize(
    ("sections", "env", "code", "says"),
    [
        ({"endpoints": {"chat": {"type": "model", "model": "./modl"}}}, {}, 2, "serve.yaml:1:"),
        ({"endpoints": {"docs": {"type": "index", "index": "faq"}}}, {}, 2, "faq"),
        ({"apps": {"web": {"key": "env:NO_SUCH_KEY"}}}, {}, 4, "the environment variable NO_SUCH_KEY is not set"),
        ({"apps": {"web": {"key": "env:WEB_KEY"}}}, {"WEB_KEY": "short"}, 2, "shorter than 16 characters"),
        (
            {"apps": {"a": {"key": "env:WEB_KEY"}, "b": {"key": "env:WEB_KEY"}}},
            {"WEB_KEY": KEY},
            2,
            "the same key as apps.a.key",
        ),
        ({"memory": {"limit": "10mb"}}, {}, 2, "do not fit into memory"),
    ],
)
def test_what_cannot_be_served_is_told_in_a_line(
    place: Path, sections: dict[str, Any], env: dict[str, str], code: int, says: str
) -> None:
    write_config(place, **sections)
    with serving(place, "serve.yaml", env=env) as server:
        assert server.process.wait(60) == code
        assert says in server.said
        errors = [line for line in server.said.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, server.said


def test_damaged_weights_are_told_and_end_it(place: Path, tiny_material: Path) -> None:
    shutil.copytree(tiny_material / "model", place / "damaged")
    (place / "damaged" / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    write_config(place, endpoints={"chat": {"type": "model", "model": "./damaged"}})
    with serving(place, "serve.yaml") as server:
        assert server.process.wait(60) == 1
        assert "error: " in server.said
        assert "Traceback" not in server.said


def test_a_taken_port_is_told_before_anything_is_loaded(place: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        write_config(place, listen={"port": port})
        with serving(place, "serve.yaml") as server:
            assert server.process.wait(60) == 2
            assert f"port {port} of 127.0.0.1 is taken" in server.said
            assert "loading" not in server.said


def test_what_is_under_way_is_finished_after_sigterm(place: Path) -> None:
    write_config(place)
    with serving(place, "serve.yaml") as server:
        url, lines = server.url, Lines(server.url, LONG)
        lines.until_some()
        server.process.send_signal(signal.SIGTERM)
        assert lines.join()[-1] == "data: [DONE]"
        assert server.process.wait(30) == 0
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(f"{url}/healthz", timeout=5)


def test_a_second_signal_stops_at_once(place: Path) -> None:
    write_config(place, limits={"drain_timeout_s": 60})
    with serving(place, "serve.yaml") as server:
        lines = Lines(server.url, {**LONG, "n": 16})
        lines.until_some()
        server.process.send_signal(signal.SIGINT)
        server.until(lambda: "stopping" in server.said, "it stops")
        started = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(30) == 0
        assert time.monotonic() - started < 15


class Lines:
    """The lines of a streamed answer, read in a thread."""

    def __init__(self, url: str, parameters: dict[str, Any], key: str | None = None) -> None:
        body = {"model": "chat", "prompt": "what is a brick ?", "temperature": 0, **parameters}
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
        request = urllib.request.Request(f"{url}/v1/completions", json.dumps(body).encode(), headers)
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read, args=(request,))
        self._thread.start()

    def _read(self, request: urllib.request.Request) -> None:
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                for line in response:
                    if line.strip():
                        self.lines.append(line.decode().strip())
        except OSError as error:
            self.lines.append(f"lost: {error}")

    def until_some(self) -> None:
        deadline = time.monotonic() + 60
        while len(self.lines) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def join(self) -> list[str]:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.lines


# --- falls ------------------------------------------------------------------------------------------------------------


def test_a_killed_engine_is_started_again_and_its_requests_are_told(place: Path) -> None:
    write_config(place, limits={"drain_timeout_s": 1})
    with serving(place, "serve.yaml") as server:
        before = server.complete(max_tokens=8).body["choices"]
        lines = Lines(server.url, {**LONG, "n": 16})
        lines.until_some()
        server.children()["serve_engine"].kill()
        told = lines.join()
        assert "the engine stopped while it worked on this request" in told[-1], told[-3:]
        assert server.ask("/healthz").status == 200
        server.until(lambda: server.ask("/readyz").status == 200, "it is ready again")
        assert server.complete(max_tokens=8).body["choices"] == before
        assert "the engine was ended by SIGKILL (out of memory?); it is started again" in server.said


def test_a_killed_worker_is_replaced(place: Path) -> None:
    write_config(place)
    with serving(place, "serve.yaml") as server:
        assert server.complete(max_tokens=1).status == 200
        server.children()["serve_worker"].kill()
        server.until(lambda: "HTTP worker 0 was ended by SIGKILL" in server.said, "the fall is told")
        assert server.complete(max_tokens=1).status == 200


def test_nothing_is_left_behind_when_the_first_process_is_killed(place: Path) -> None:
    write_config(place)
    with serving(place, "serve.yaml") as server:
        assert server.complete(max_tokens=1).status == 200
        children = list(server.children().values())
        server.process.kill()
        _, alive = psutil.wait_procs(children, timeout=20)
        assert not alive


# --- who may ask ------------------------------------------------------------------------------------------------------


def test_keys_open_what_they_should(server: GenaiServer) -> None:
    body = {"model": "chat", "prompt": "a", "max_tokens": 1}
    assert server.ask("/v1/completions", body).status == 401
    assert server.ask("/v1/completions", body, key="key-of-the-web-app-2").status == 401
    assert server.ask("/v1/completions", body, key=KEY).status == 200
    refused = server.ask("/v1/completions", body, key=OTHER_KEY)
    assert (refused.status, refused.body["error"]["code"]) == (404, "model_not_found")
    assert server.ask("/v1/completions", {**body, "model": "lora"}, key=OTHER_KEY).status == 200
    models = server.ask("/v1/models", key=OTHER_KEY).body["data"]
    assert [model["id"] for model in models] == ["lora"]


def test_other_hosts_and_pages_of_others_are_refused(server: GenaiServer) -> None:
    assert server.ask("/v1/models", key=KEY, headers={"host": "evil.example"}).status == 421
    assert server.ask("/v1/models", key=KEY, headers={"origin": "https://evil.example"}).status == 403


def test_the_operators_port_wants_its_token(server: GenaiServer) -> None:
    assert server.ask("/admin/status", admin=True).status == 401
    assert server.ask("/admin/status", admin=True, key=KEY).status == 401
    assert server.ask("/admin/status", key=TOKEN).status in (401, 404)
    told = server.ask("/admin/status", admin=True, key=TOKEN).body
    assert told["engine"]["is_ready"]
    assert len(told["workers"]) == 2


def test_secrets_are_nowhere_to_be_read(server: GenaiServer) -> None:
    server.ask("/v1/completions", {"model": "chat", "prompt": "a", "max_tokens": 1}, key=KEY)
    time.sleep(0.5)
    log = (server._log.parent / "access.jsonl").read_text()
    assert '"app":"web"' in log
    folders = [Path(child.cmdline()[-1 if name == "serve_engine" else -2]) for name, child in server.children().items()]
    texts = [log, server.said, *(file.read_text() for folder in folders for file in folder.glob("*.yaml"))]
    texts += [server.ask("/admin/status", admin=True, key=TOKEN).body, server.ask("/metrics").body]
    for secret in (KEY, OTHER_KEY, TOKEN):
        assert not any(secret in str(text) for text in texts)


# --- figures ----------------------------------------------------------------------------------------------------------


def test_metrics_are_summed_over_the_workers(server: GenaiServer) -> None:
    def asked() -> float:
        lines = server.ask("/metrics").body.splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("genai_http_requests_total") and "/v1/tokenize" in line
        )

    before = asked()
    for _ in range(20):
        assert server.ask("/v1/tokenize", {"model": "chat", "prompt": "a"}, key=KEY).status == 200
    server.until(lambda: asked() == before + 20, "all are counted")
    text = server.ask("/metrics").body
    assert 'vllm:kv_cache_usage_perc{model_name="chat"}' in text


# --- operating --------------------------------------------------------------------------------------------------------


def test_a_lazy_model_comes_and_goes(server: GenaiServer) -> None:
    def state() -> str:
        models = server.ask("/v1/models", key=KEY).body["data"]
        return str(next(model["state"] for model in models if model["id"] == "lazy"))

    server.until(lambda: state() == "unloaded", "it is not loaded")
    first = server.ask("/v1/completions", {"model": "lazy", "prompt": "a", "max_tokens": 2, "temperature": 0}, key=KEY)
    assert first.status == 200
    server.until(lambda: state() == "unloaded", "it is let go of")
    again = server.ask("/v1/completions", {"model": "lazy", "prompt": "a", "max_tokens": 2, "temperature": 0}, key=KEY)
    assert again.body["choices"] == first.body["choices"]


def test_adapters_are_loaded_replaced_and_removed_while_it_runs(server: GenaiServer, material: Path) -> None:
    def say(model: str) -> Any:
        body = {"model": model, "prompt": "what is a brick ?", "max_tokens": 12, "temperature": 0, "ignore_eos": True}
        answer = server.ask("/v1/completions", body, key=KEY)
        return answer.body["choices"][0]["text"] if answer.status == 200 else answer.status

    def order(path: str, **body: Any) -> Any:
        return server.ask(f"/admin/{path}", {"model": "chat", **body}, admin=True, key=TOKEN)

    base, lora = say("chat"), say("lora")
    assert base != lora
    assert say("more") == 404
    assert order("adapters", name="more", reference=str(material / "lora")).status == 200
    server.until(lambda: say("more") == lora, "the adapter answers")
    assert order("adapters", name="more", reference=str(material / "lora2")).status == 200
    server.until(lambda: say("more") not in (lora, base), "the other one answers")
    assert order("adapters/remove", name="more").status == 200
    server.until(lambda: say("more") == 404, "it is gone")
    wrong = order("adapters/remove", name="mor")
    assert (wrong.status, "has no adapter 'mor'" in wrong.body["error"]["message"]) == (400, True)


def test_an_adapter_of_another_base_is_refused_and_all_goes_on(
    server: GenaiServer, material: Path, place: Path
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    wide = LlamaConfig(hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=100)
    LlamaForCausalLM(wide).save_pretrained(place / "wide")
    make_adapter(place / "wide-lora", place / "wide")
    body = {"model": "chat", "name": "wide", "reference": str(place / "wide-lora")}
    refused = server.ask("/admin/adapters", body, admin=True, key=TOKEN)
    assert refused.status == 400
    assert "is for another model" in refused.body["error"]["message"]
    assert server.ask("/v1/completions", {"model": "chat", "prompt": "a", "max_tokens": 1}, key=KEY).status == 200


def test_a_reload_swaps_models_without_dropping_a_request(place: Path, material: Path) -> None:
    engine = {"precision": "fp32"}
    write_config(place, admin={"token": "env:ADMIN_TOKEN", "port": 0})
    with serving(place, "serve.yaml", env=ENV) as server:
        before = server.complete(max_tokens=8, ignore_eos=True).body["choices"][0]["text"]
        lines = Lines(server.url, LONG)
        lines.until_some()
        write_config(
            place,
            admin={"token": "env:ADMIN_TOKEN", "port": 0},
            endpoints={
                "chat": {"type": "model", "model": str(material / "other"), "engine": engine},
                "old": {"type": "model", "model": "./model", "engine": engine},
            },
        )
        server.process.send_signal(signal.SIGHUP)
        server.until(lambda: "taken over" in server.said, "the new file is in force")
        assert lines.join()[-1] == "data: [DONE]"
        assert server.complete(max_tokens=8, ignore_eos=True).body["choices"][0]["text"] != before
        old = server.ask(
            "/v1/completions",
            {"model": "old", "prompt": "what is a brick ?", "temperature": 0, "max_tokens": 8, "ignore_eos": True},
        )
        assert old.body["choices"][0]["text"] == before


CHAT = {"type": "model", "model": "./model", "engine": {"precision": "fp32"}}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"endpoints": {"chat": {**CHAT, "modl": "./model"}}}, "unknown key"),
        ({"endpoints": {"chat": CHAT, "more": {"type": "model", "model": "./nowhere"}}}, "nowhere"),
        ({"endpoints": {"chat": CHAT, "more": {"type": "model", "model": "./damaged"}}}, "weights are missing"),
        ({"listen": {"port": 1}}, "listen.port cannot be changed while the server runs"),
    ],
)
def test_a_wrong_new_file_keeps_the_old_one_and_says_why(
    place: Path, tiny_material: Path, change: dict[str, Any], says: str
) -> None:
    admin = {"token": "env:ADMIN_TOKEN", "port": 0}
    shutil.copytree(tiny_material / "model", place / "damaged")
    (place / "damaged" / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    write_config(place, admin=admin)
    with serving(place, "serve.yaml", env=ENV) as server:
        before = server.complete(max_tokens=4).body["choices"]
        write_config(place, admin=admin, **change)
        refused = server.ask("/admin/reload", {}, admin=True, key=TOKEN)
        assert refused.status == 400
        assert says in refused.body["error"]["message"]
        os.kill(server.process.pid, signal.SIGHUP)
        server.until(lambda: "not taken over, the server goes on as before" in server.said, "it is told")
        assert server.complete(max_tokens=4).body["choices"] == before


def test_what_is_no_yaml_keeps_the_old_one(place: Path) -> None:
    config = write_config(place)
    with serving(place, "serve.yaml") as server:
        assert server.complete(max_tokens=1).status == 200
        config.write_text("{")
        os.kill(server.process.pid, signal.SIGHUP)
        server.until(lambda: "not taken over, the server goes on as before" in server.said, "it is told")
        assert server.complete(max_tokens=1).status == 200
