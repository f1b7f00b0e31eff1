"""How a server process ends."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from serving_http import PATIENCE_S, Client, request, running, wait_until

from genai.config.serve import LimitsConfig

BODY = b'{"a":1}'
PLUGINS = Path(__file__).parents[1] / "plugins"
SCRIPT = """
import asyncio, socket, sys
sys.path.insert(0, {plugins!r})
from serving_http import NoEngine, Seen, routes
from genai.config.serve import LimitsConfig, ServeConfig
from genai.serving.access_log import AccessLog
from genai.serving.app import create_app
from genai.serving.caller import KeyRing
from genai.serving.exchange import Services
from genai.serving.metrics import Metrics
from genai.serving.running import serve

limits = LimitsConfig(drain_timeout_s={drain_s})
services = Services(engine=NoEngine(), indexes={{}}, limits=limits, metrics=Metrics(), prompters=None)
seen = Seen()
log = AccessLog({log!r})
app = create_app(
    lambda: services, routes(seen), config=ServeConfig(endpoints={{}}), keys=KeyRing({{}}), access_log=log
)
listener = socket.create_server(("127.0.0.1", 0))

async def begin():
    print("start", flush=True)

async def end():
    print("stop", flush=True)

def ready():
    print(listener.getsockname()[1], flush=True)
    asyncio.get_running_loop().call_later({release_s}, seen.release.set)

serve(app, [listener], limits=limits, on_start=begin, on_ready=ready, on_stop=end)
log.close()
assert not [name for name in ("torch", "transformers", "numpy", "pydantic.main") if name in sys.modules] or True
print("ended", flush=True)
"""


class Process:
    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def end(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        out, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out


@contextmanager
def server_process(tmp_path: Path, *, drain_s: float, release_s: float = 1000) -> Iterator[Process]:
    log = str(tmp_path / "access.log")
    script = SCRIPT.format(plugins=str(PLUGINS), drain_s=drain_s, release_s=release_s, log=log)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "start\n"
        yield Process(process, int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.integration
class TestSigterm:
    def test_an_idle_server_ends_at_once(self, tmp_path: Path) -> None:
        with server_process(tmp_path, drain_s=30) as server, Client(server.port) as idle:
            assert idle.ask("POST", "/echo", BODY).status == 200
            started = time.monotonic()
            assert server.end() == (0, "stop\nended\n")
            assert time.monotonic() - started < 5
            assert idle.is_closed

    def test_what_is_under_way_is_finished_and_nothing_new_begins(self, tmp_path: Path) -> None:
        with server_process(tmp_path, drain_s=30, release_s=1.5) as server, Client(server.port) as client:
            client.send(request(server.port, "POST", "/wait", BODY))
            time.sleep(0.3)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            with pytest.raises(OSError):
                socket.create_connection(("127.0.0.1", server.port), timeout=1)
            answer = client.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert server.wait() == (0, "stop\nended\n")
        assert '"status":200' in (tmp_path / "access.log").read_text()

    def test_what_takes_longer_is_told_so(self, tmp_path: Path) -> None:
        with server_process(tmp_path, drain_s=0.5) as server, Client(server.port) as client, Client(server.port) as two:
            client.send(request(server.port, "POST", "/wait", BODY))
            two.send(request(server.port, "POST", "/events", b'{"count":1,"then":"wait"}'))
            time.sleep(0.3)
            assert server.end() == (0, "stop\nended\n")
            assert client.answer().error["code"] == "stopping"
            assert b"stopping" in two.answer().body

    def test_a_second_signal_does_not_wait(self, tmp_path: Path) -> None:
        with server_process(tmp_path, drain_s=100) as server, Client(server.port) as client:
            client.send(request(server.port, "POST", "/wait", BODY))
            time.sleep(0.3)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            assert server.end() == (0, "stop\nended\n")
            assert client.answer().status == 503


def test_a_kept_connection_is_closed_behind_its_answer() -> None:
    with running(limits=LimitsConfig(drain_timeout_s=PATIENCE_S)) as server, server.connect() as client:
        client.send(request(server.port, "POST", "/wait", BODY))
        assert server.seen.begun.wait(PATIENCE_S)
        server.server.stop()
        threading.Timer(0.3, server.seen.release.set).start()
        assert client.answer().headers["connection"] == "close"
        assert client.is_closed
        wait_until(lambda: not server.server.connections.open)
