"""What goes wrong around `genai serve`, from outside: each time a clear answer, and the server goes on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from genai_servers import GenaiServer, serving, write_config
from index_jobs import make_word_model, write_job, write_table

pytestmark = pytest.mark.integration

TOKEN = "token-of-the-operator-3"
ADMIN = {"token": "env:ADMIN_TOKEN", "port": 0}
CHAT = {"type": "model", "model": "./model", "engine": {"precision": "fp32"}}
LONG = {"max_tokens": 200, "ignore_eos": True, "stream": True}

HOOK = '''
"""Lets the model of a test be slow, or fail, while files beside it say so."""
import importlib.machinery, os, pathlib, sys, time

FOLDER = pathlib.Path(os.environ["FAULTS"])

class Hook:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "genai.inference.runners.llama":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            patch(module)
        spec.loader.exec_module = exec_module
        return spec

def patch(module):
    forward = module.LlamaRunner.forward
    def faulty(self, step):
        if (FOLDER / "slow").exists():
            time.sleep(0.05)
        crashes = FOLDER / "crashes"
        if crashes.exists():
            left = int(crashes.read_text())
            crashes.write_text(str(left - 1)) if left > 1 else crashes.unlink()
            raise RuntimeError("a fault of the test")
        return forward(self, step)
    module.LlamaRunner.forward = faulty
    if (FOLDER / "memory").exists():
        import resource
        size = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + int((FOLDER / "memory").read_text()), -1))

sys.meta_path.insert(0, Hook)
'''


@pytest.fixture
def place(tmp_path: Path, tiny_material: Path) -> Path:
    (tmp_path / "model").symlink_to(tiny_material / "model")
    return tmp_path


@pytest.fixture
def faults(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose files let the model of servers that are started now be slow or fail."""
    folder = place / "faults"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HOOK)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("FAULTS", str(folder))
    return folder


@contextmanager
def started(place: Path, **sections: Any) -> Iterator[GenaiServer]:
    write_config(place, **{"admin": ADMIN, **sections})
    with serving(place, "serve.yaml", env={"ADMIN_TOKEN": TOKEN}) as server:
        yield server


def figures(server: GenaiServer, model: str = "chat") -> dict[str, Any]:
    told = server.ask("/admin/status", admin=True, key=TOKEN).body["engine"]["models"]
    found: dict[str, Any] = next(each for each in told if each["name"] == model)["stats"]
    return found


def connect(server: GenaiServer) -> socket.socket:
    place = urlsplit(server.url)
    assert place.hostname is not None and place.port is not None
    return socket.create_connection((place.hostname, place.port), timeout=30)


def begin(server: GenaiServer, **parameters: Any) -> socket.socket:
    """Ask for a completion and read no more than its beginning."""
    body = json.dumps({"model": "chat", "prompt": "what is a brick ?", "temperature": 0, **parameters}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    asking = connect(server)
    asking.sendall(head.encode() + body)
    return asking


def answer_of(asking: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Ask in a thread of its own."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(asking()))
    thread.start()
    return thread, answers


# --- clients ----------------------------------------------------------------------------------------------------------


def test_a_client_that_leaves_frees_its_slots_at_once(place: Path, faults: Path) -> None:
    with started(place) as server:
        assert server.complete(max_tokens=1).status == 200
        (faults / "slow").touch()
        with begin(server, n=4, **LONG) as asking:
            assert b"200 OK" in asking.recv(1000)
            server.until(lambda: figures(server)["running"] == 4, "all are under way")
        left = time.monotonic()
        server.until(lambda: figures(server)["running"] == 0, "its slots are free", 5)
        assert time.monotonic() - left < 2  # they would have gone on for 10 s
        assert figures(server)["kv_usage"] == 0
        with begin(server, **{**LONG, "stream": False}):  # one that waits for all of it
            server.until(lambda: figures(server)["running"] == 1, "it is under way")
        server.until(lambda: figures(server)["running"] == 0, "its slot is free", 5)


def test_a_thousand_hung_clients_hold_up_nobody(place: Path) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
    with started(place) as server, ExitStack() as hung:
        assert server.complete(max_tokens=1).status == 200
        for number in range(1000):
            client = hung.enter_context(connect(server))
            if number % 3:
                client.sendall(head[: number % 40] if number % 3 == 1 else head + b"Content-Length: 1000\r\n\r\n{")
        for _ in range(5):
            began = time.monotonic()
            assert server.complete(max_tokens=4).status == 200
            assert time.monotonic() - began < 3
        assert server.ask("/readyz").status == 200


def test_clients_that_hang_are_left_after_their_time(place: Path) -> None:
    limits = {"header_timeout_s": 1, "body_timeout_s": 1, "idle_timeout_s": 1}
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
    with started(place, limits=limits) as server:
        assert server.url
        for said in (b"", head, head + b"Content-Length: 1000\r\n\r\n{"):
            with connect(server) as client:
                client.sendall(said)
                told = b""
                while more := client.recv(1000):
                    told += more
                assert not told or b" 408 " in told


# --- requests ---------------------------------------------------------------------------------------------------------


def test_requests_that_cannot_be_carried_out_are_refused_with_the_reason(place: Path) -> None:
    explosive = {"type": "integer", "multipleOf": 123456789}
    with started(place, limits={"grammar_timeout_s": 2}) as server:
        assert server.complete(max_tokens=1).status == 200
        for parameters, status, says in (
            ({"model": "chta"}, 404, "did you mean 'chat'?"),
            ({"prompt": "brick " * 500}, 400, "256"),
            ({"max_tokens": 5000}, 400, "max_tokens is 5000"),
            ({"prompt": []}, 400, "prompt"),
            ({"structured_outputs": {"json": {"type": "objct"}}}, 400, "objct"),
            ({"structured_outputs": {"json": {"type": "object", "unevaluatedItems": True}}}, 400, "unevaluatedItems"),
            ({"structured_outputs": {"json": explosive}}, 400, "too complex"),
            ({"structured_outputs": {"regex": "("}}, 400, "regex"),
        ):
            began = time.monotonic()
            refused = server.complete(**{"max_tokens": 4, **parameters})
            assert refused.status == status, (parameters, refused)
            assert says in refused.body["error"]["message"], refused
            assert time.monotonic() - began < 10
            assert server.complete(max_tokens=1).status == 200
        assert server.children()["serve_engine"].is_running()
        assert "Traceback" not in server.said


def test_an_adapter_of_another_base_is_told_at_the_start(place: Path, tiny_material: Path) -> None:
    from safetensors.torch import save_file
    from torch import ones

    folder = place / "wide"
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    save_file({name.format("A"): ones(2, 64), name.format("B"): ones(64, 2)}, folder / "adapter_model.safetensors")
    with started(place, endpoints={"chat": {**CHAT, "adapters": {"wide": "./wide"}}}) as server:
        assert server.process.wait(60) == 1
        (told,) = [line for line in server.said.splitlines() if line.startswith("error: ")]
        assert "for another model" in told
        assert "Traceback" not in server.said


# --- the engine -------------------------------------------------------------------------------------------------------


def test_a_crash_in_a_step_costs_its_requests_alone(place: Path, faults: Path) -> None:
    with started(place) as server:
        before = server.complete(max_tokens=8).body["choices"]
        (faults / "slow").touch()
        thread, answers = answer_of(lambda: server.complete(max_tokens=100, ignore_eos=True, n=2))
        server.until(lambda: figures(server)["running"] == 2, "they are under way")
        (faults / "crashes").write_text("1")
        thread.join(30)
        (lost,) = answers
        assert (lost.status, lost.body["error"]["code"]) == (500, "engine_error")
        assert "the engine failed (RuntimeError); the request was not finished" in lost.body["error"]["message"]
        assert "a fault of the test" not in str(lost.body)
        assert server.complete(max_tokens=8).body["choices"] == before
        assert (figures(server)["crashes"], figures(server)["running"]) == (1, 0)
        assert "a fault of the test" in server.said  # the log has all of it


def test_a_crash_in_a_stream_is_its_last_event(place: Path, faults: Path) -> None:
    with started(place) as server:
        assert server.complete(max_tokens=1).status == 200
        (faults / "slow").touch()
        with begin(server, **LONG) as asking:
            told = asking.recv(1000)
            (faults / "crashes").write_text("1")
            while not told.endswith(b"0\r\n\r\n"):
                more = asking.recv(10_000)
                assert more, told
                told += more
        assert b'"engine_error"' in told
        assert server.complete(max_tokens=1).status == 200


def test_an_engine_that_fails_again_and_again_is_loaded_anew(place: Path, faults: Path) -> None:
    with started(place) as server:
        before = server.complete(max_tokens=8).body["choices"]
        (faults / "crashes").write_text("3")
        for _ in range(3):
            assert server.complete(max_tokens=8).status in (500, 503)
        server.until(lambda: server.complete(max_tokens=8).status == 200, "it answers again", 30)
        assert server.complete(max_tokens=8).body["choices"] == before
        assert "chat is loaded anew: chat failed again and again" in server.said


def test_a_hanging_engine_costs_no_more_than_the_time_of_a_request(place: Path) -> None:
    with started(place, limits={"request_timeout_s": 2}) as server:
        before = server.complete(max_tokens=8).body["choices"]
        engine = server.children()["serve_engine"]
        engine.send_signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            late = server.complete(max_tokens=8)
            assert (late.status, late.body["error"]["code"]) == (504, "timeout")
            assert 1.5 < time.monotonic() - began < 6
            assert server.ask("/healthz").status == 200
            assert server.ask("/metrics").status == 200
            assert server.ask("/v1/tokenize", {"model": "chat", "prompt": "a"}).status == 200
        finally:
            engine.send_signal(signal.SIGCONT)
        assert server.complete(max_tokens=8).body["choices"] == before
        server.until(lambda: figures(server)["running"] == 0, "nothing is left of it")


def test_a_server_whose_engine_hangs_can_be_stopped(place: Path) -> None:
    with started(place, limits={"drain_timeout_s": 1}) as server:
        assert server.complete(max_tokens=1).status == 200
        server.children()["serve_engine"].send_signal(signal.SIGSTOP)
        assert server.stop(timeout_s=30) == 0
        assert "the engine does not end; it is killed" in server.said


# --- memory and disks -------------------------------------------------------------------------------------------------


def test_a_lazy_model_that_does_not_fit_is_told_while_others_go_on(place: Path) -> None:
    def endpoint(kv_cache: str, load: str) -> dict[str, Any]:
        return {**CHAT, "load": load, "engine": {"precision": "fp32", "kv_cache": kv_cache}}

    endpoints = {"chat": endpoint("500mb", "start"), **{name: endpoint("300mb", "lazy") for name in ("one", "two")}}
    with started(place, endpoints=endpoints, memory={"limit": "2200mb"}) as server:
        assert server.complete(max_tokens=1, model="one").status == 200
        refused = server.complete(max_tokens=1, model="two")
        assert (refused.status, refused.body["error"]["code"]) == (503, "model_not_ready")
        assert "do not fit into memory" in refused.body["error"]["message"]
        assert "beside what is loaded (two " in refused.body["error"]["message"]
        assert server.complete(max_tokens=1).status == 200
        assert server.ask("/admin/models/unload", {"model": "one"}, admin=True, key=TOKEN).status == 200
        server.until(lambda: server.complete(max_tokens=1, model="two").status == 200, "there is room for it")


@pytest.mark.slow
def test_memory_that_runs_out_in_a_load_is_one_line_and_costs_no_other_model(place: Path, faults: Path) -> None:
    make_big_model(place / "big", place / "model")
    (faults / "memory").write_text(str(400 << 20))
    big = {"type": "model", "model": "./big", "engine": {"precision": "fp32", "max_num_seqs": 1}}
    with started(place, endpoints={"big": big}) as server:
        assert server.process.wait(120) == 1
        (told,) = [line for line in server.said.splitlines() if line.startswith("error: ")]
        assert "there is not enough memory for ./big" in told
        assert "Traceback" not in server.said
    with started(place, endpoints={"chat": CHAT, "big": {**big, "load": "lazy"}}) as server:
        assert server.complete(max_tokens=1).status == 200
        refused = server.complete(max_tokens=1, model="big")
        assert (refused.status, refused.body["error"]["code"]) == (503, "model_not_ready")
        assert "there is not enough memory for ./big" in refused.body["error"]["message"]
        assert server.complete(max_tokens=1).status == 200
        assert server.children()["serve_engine"].is_running()


def make_big_model(folder: Path, source: Path) -> None:
    """480 MB of weights, with the tokenizer of `source`."""
    import shutil

    from transformers import LlamaConfig, LlamaForCausalLM

    shutil.copytree(source, folder)
    config = LlamaConfig.from_pretrained(folder)
    config.hidden_size, config.intermediate_size, config.num_hidden_layers = 1024, 8192, 4
    config.num_attention_heads, config.head_dim = 16, 64
    LlamaForCausalLM(config).save_pretrained(folder)


def test_a_full_disk_costs_lines_of_the_log_and_no_answer(place: Path) -> None:
    with started(place, access_log={"path": "/dev/full"}) as server:
        for _ in range(3):
            assert server.complete(max_tokens=1).status == 200
        server.until(lambda: "lines of the access log are lost: No space left on device" in server.said, "it is told")
        assert server.said.count("lines of the access log are lost") == 1
        assert server.complete(max_tokens=1).status == 200


# --- indexes ----------------------------------------------------------------------------------------------------------

QUESTION = {"query": "how thick is the screed", "k": 1}


@pytest.fixture
def rooms(place: Path) -> Path:
    """An index `rooms` beside the model."""
    folder = place / "index"
    folder.mkdir()
    make_word_model(folder / "model")
    write_table(folder / "table")
    write_job(folder / "rooms.yaml", embedding={"model": str(folder / "model")}, indexes_dir=str(place / "indexes"))
    code = "import sys; from genai_cli.main import main; sys.exit(main())"
    subprocess.run([sys.executable, "-c", code, "index", "rooms.yaml", "--quiet"], cwd=folder, check=True)
    return folder


def test_texts_are_asked_of_an_index_whose_encoder_comes_and_goes(place: Path, rooms: Path) -> None:
    endpoints = {
        "words": {
            "type": "encoder",
            "embedding": {"model": str(rooms / "model")},
            "load": "lazy",
            "unload_after_s": 0.5,
        },
        "docs": {"type": "index", "index": "rooms", "encoder": "words"},
        "same": {"type": "index", "index": "rooms"},
    }
    with started(place, endpoints=endpoints) as server:
        states = lambda: {each["id"]: each["state"] for each in server.ask("/v1/models").body["data"]}  # noqa: E731
        for _ in range(2):
            server.until(lambda: states()["words"] == "unloaded", "the encoder is gone")
            for name in ("docs", "same"):
                found = server.ask(f"/v1/indexes/{name}/query", QUESTION)
                assert found.status == 200, found
                assert found.body["results"][0]["key"] == "1"
            assert states()["words"] == "ready"


def test_an_index_finds_its_encoder_again_after_a_fall_of_the_engine(place: Path, rooms: Path) -> None:
    with started(place, endpoints={"docs": {"type": "index", "index": "rooms"}}) as server:
        first = server.ask("/v1/indexes/docs/query", QUESTION)
        assert first.status == 200, first
        engine = server.children()["serve_engine"]
        engine.kill()
        server.until(lambda: "the engine was ended by SIGKILL" in server.said, "the fall is told")
        away = server.ask("/v1/indexes/docs/query", QUESTION)
        assert away.status in (200, 503), away
        server.until(lambda: server.ask("/readyz").status == 200, "it is ready again")
        assert server.ask("/v1/indexes/docs/query", QUESTION).body == first.body


def test_two_servers_share_a_model_and_an_index(place: Path, rooms: Path) -> None:
    endpoints = {"chat": CHAT, "docs": {"type": "index", "index": "rooms"}}
    with started(place, endpoints=endpoints) as one, ExitStack() as second:
        other_place = place / "second"
        other_place.mkdir()
        (other_place / "model").symlink_to(place / "model")
        other = second.enter_context(started(other_place, endpoints=endpoints, indexes_dir=str(place / "indexes")))
        assert one.url != other.url
        for server in (one, other):
            assert server.complete(max_tokens=1).status == 200
            assert server.ask("/v1/indexes/docs/query", QUESTION).body["results"][0]["key"] == "1"
        assert one.stop() == 0
        assert other.complete(max_tokens=1).status == 200
        assert other.ask("/v1/indexes/docs/query", QUESTION).status == 200


def test_a_worker_starts_while_its_engine_hangs(place: Path, rooms: Path) -> None:
    endpoints = {"chat": CHAT, "docs": {"type": "index", "index": "rooms"}}
    with started(place, endpoints=endpoints) as server:
        assert server.complete(max_tokens=1).status == 200
        engine, worker = (server.children()[name] for name in ("serve_engine", "serve_worker"))
        engine.send_signal(signal.SIGSTOP)
        try:
            os.kill(worker.pid, signal.SIGKILL)
            server.until(lambda: "HTTP worker 0 was ended by SIGKILL" in server.said, "the fall is told")
            assert server.ask("/healthz", timeout_s=20).status == 200
            assert server.ask("/readyz").status == 503
        finally:
            engine.send_signal(signal.SIGCONT)
        server.until(lambda: server.ask("/readyz").status == 200, "it is ready again")
        assert server.ask("/v1/indexes/docs/query", QUESTION).status == 200
