import json
import math
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from genai.training.callbacks.webhook import Webhook

SECRET = "T0PSECRET"


class Receiver(BaseHTTPRequestHandler):
    """Keeps what was posted; `answer` says how it behaves."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, self.headers["Content-Type"], json.loads(body)))
        self.server.answer(self)

    def do_GET(self):
        self.server.received.append(("GET", None, None))
        self.server.answer(self)

    def log_message(self, *args):
        pass


def ok(handler):
    handler.send_response(204)
    handler.end_headers()


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.received, server.answer, server.released = [], ok, threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}/hooks/{SECRET}?key={SECRET}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


def send(url, *, timeout_s=5.0, status="done", message=None, infos=()):
    webhook = Webhook(url=url, timeout_s=timeout_s, run_name="faq-1")
    for hook, info in infos:
        getattr(webhook, hook)(info)
    webhook.fit_end(status, message)


def test_posts_run_status_message_and_last_metrics(server, step_info, eval_info, log_lines):
    infos = [("step_end", step_info(1)), ("eval_end", eval_info(2.5)), ("step_end", step_info(2, loss=1.5))]
    send(server.url, status="failed", message="loss spike at batch 2", infos=infos)
    ((path, content_type, body),) = server.received
    assert path == f"/hooks/{SECRET}?key={SECRET}" and content_type == "application/json"
    assert body == {
        "run": "faq-1",
        "status": "failed",
        "message": "loss spike at batch 2",
        "metrics": {"batch": 2, "epoch": 0, "tokens": 2000, "loss": 1.5, "eval_loss": 2.5, "best_eval_loss": 2.5},
    }
    assert log_lines == []


def test_a_loss_that_is_not_finite_is_null(server, step_info):
    send(server.url, infos=[("step_end", step_info(1, loss=math.nan))])
    assert server.received[0][2]["metrics"]["loss"] is None


def check_one_warning(log_lines, expected):
    (line,) = log_lines
    assert line.startswith("WARNING") and expected in line
    assert SECRET not in line


def test_an_error_answer_is_one_warning(server, log_lines):
    server.answer = lambda handler: handler.send_error(500, explain=SECRET)
    send(server.url)
    check_one_warning(log_lines, "HTTP 500")


def test_a_redirect_is_not_followed(server, log_lines):
    def redirect(handler):
        handler.send_response(302)
        handler.send_header("Location", server.url)
        handler.end_headers()

    server.answer = redirect
    send(server.url)
    check_one_warning(log_lines, "HTTP 302")
    assert len(server.received) == 1


def hang(handler):
    handler.server.released.wait(20)


def drip(handler):
    while not handler.server.released.wait(0.05):
        handler.wfile.write(b"X")  # a status line without an end: each read succeeds


@pytest.mark.parametrize("behaviour", [hang, drip])
def test_a_server_that_does_not_answer_costs_the_deadline_only(server, log_lines, behaviour):
    server.answer = behaviour
    started = time.monotonic()
    send(server.url, timeout_s=0.3)
    assert 0.25 < time.monotonic() - started < 5
    check_one_warning(log_lines, "no answer within the deadline")


def test_no_server(log_lines):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    send(f"http://127.0.0.1:{port}/{SECRET}")
    check_one_warning(log_lines, "webhook to 127.0.0.1 failed: Connection refused")


def test_a_server_that_speaks_no_http(server, log_lines):
    server.answer = lambda handler: handler.wfile.write(b"\x00nonsense\r\n\r\n")
    send(server.url)
    check_one_warning(log_lines, "BadStatusLine")


@pytest.mark.parametrize(
    "url",
    [
        f"file:///etc/{SECRET}",
        f"ftp://host/{SECRET}",
        f"env:{SECRET}",
        f"http://[{SECRET}",
        f"http://h/{SECRET}\n x",
        "",
    ],
)
def test_a_url_that_is_none_is_one_warning(log_lines, url):
    send(url)
    check_one_warning(log_lines, "webhook to ")
