from __future__ import annotations

import gc
import resource
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from serving_http import PATIENCE_S, Running, request, running, wait_until

from genai.config.serve import LimitsConfig
from genai.serving.protocol import Exchange

BODY = b'{"a":1}'


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as found:
        yield found


class TestOneConnection:
    def test_it_is_used_again_after_errors(self, server: Running) -> None:
        with server.connect() as client:
            for path, status in (("/fail", 500), ("/nothing", 404), ("/refuse", 400), ("/echo", 200)) * 3:
                assert client.ask("POST", path, BODY).status == status

    def test_requests_that_come_at_once_are_answered_in_turn(self, server: Running) -> None:
        with server.connect() as client:
            bodies = [b"[%d]" % number for number in range(50)]
            client.send(b"".join(request(server.port, "POST", "/echo", body) for body in bodies))
            assert [client.answer().body for _ in bodies] == bodies

    def test_requests_that_come_while_another_is_answered(self) -> None:
        with running() as server, server.connect() as client:
            client.send(request(server.port, "POST", "/wait", BODY))
            assert server.seen.begun.wait(PATIENCE_S)
            bodies = [b'"' + b"x" * 50_000 + b'"' for _ in range(20)]
            for body in bodies[:3]:
                client.send(request(server.port, "POST", "/echo", body))
            server.seen.release.set()
            assert client.answer().json == {"waited": True}
            assert [client.answer().body for _ in range(3)] == bodies[:3]

    def test_an_exchange_that_is_over_is_freed_at_once(self, server: Running) -> None:
        gc.disable()  # which would free those that hold one another too, late and dearly
        try:
            with server.connect() as client:
                for path in ("/echo", "/refuse", "/echo"):
                    client.ask("POST", path, BODY)
                wait_until(lambda: not any(type(each) is Exchange for each in gc.get_objects()))
        finally:
            gc.enable()

    def test_a_request_may_come_in_crumbs(self, server: Running) -> None:
        with server.connect() as client:
            client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            whole = request(server.port, "POST", "/echo", BODY)
            for number in range(len(whole)):
                client.send(whole[number : number + 1])
            assert client.answer().body == BODY

    def test_it_is_closed_where_the_client_says_so(self, server: Running) -> None:
        with server.connect() as client:
            assert client.ask("POST", "/echo", BODY, connection="close").headers["connection"] == "close"
            assert client.rest() == b""

    def test_http_1_0(self, server: Running) -> None:
        with server.connect() as client:
            client.send(b"GET /items/a HTTP/1.0\r\n\r\n")
            head, _, body = client.rest().partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200") and body == b'{"name": "a"}'

    def test_an_upgrade_is_not_taken_up(self, server: Running) -> None:
        with server.connect() as client:
            told = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c"}
            answer = client.ask("POST", "/echo", BODY, **told)
            assert (answer.status, answer.body) == (200, BODY)
            assert client.rest() == b""
        with server.connect() as client:
            client.send(request(server.port, "POST", "/echo", BODY[:3], **told, content_length="7"))
            time.sleep(0.05)
            client.send(BODY[3:])
            assert client.answer().body == BODY
        with server.connect() as client:
            assert client.ask("GET", "/items/a", connection="upgrade", upgrade="websocket").status == 200


class TestNonsense:
    @pytest.mark.parametrize(
        "data",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
            b"HELLO\r\n\r\n",
            b"GET /items/a HTTP/3.0\r\n\r\n",
            b"GET /items/a HTTP/1.1\r\nHost : localhost\r\n\r\n",
            b"GET /items/a HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
            b"GET /items/a HTTP/1.1\r\nHost: localhost\r\n X: folded\r\n\r\n",
            b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
            b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1x\r\n\r\n",
            b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n[]",
            b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n",
            b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
            b"POST /echo HTTP/1.1\nHost: localhost\nContent-Length: 2\n\n[]",
        ],
    )
    def test_it_is_refused_and_the_connection_closed(self, server: Running, data: bytes) -> None:
        with server.connect() as client:
            client.send(data)
            answer = client.answer()
            assert (answer.status, answer.error["code"]) == (400, "bad_request")
            assert answer.headers["x-request-id"]
            assert client.rest() == b""

    def test_behind_a_request_it_does_not_spoil_its_answer(self, server: Running) -> None:
        with server.connect() as client:
            client.send(request(server.port, "POST", "/echo", BODY) + b"NONSENSE\r\n\r\n")
            assert client.answer().body == BODY
            assert client.rest() == b""

    @pytest.mark.parametrize("target", ["*", "http://evil.example/items/a", "//evil.example", "/%00", "/%ff", "/a?%"])
    def test_odd_targets_do_no_harm(self, server: Running, target: str) -> None:
        with server.connect() as client:
            assert client.ask("OPTIONS", target).status in (204, 400, 404)


class TestHeaders:
    @pytest.mark.parametrize(
        "head",
        [
            b"GET /items/a HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
            b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /items/a HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(500)) + b"\r\n",
        ],
    )
    def test_too_many_or_too_large(self, server: Running, head: bytes) -> None:
        with server.connect() as client:
            client.send(head)
            answer = client.answer()
            assert (answer.status, answer.error["code"]) == (431, "headers_too_large")
            assert client.rest() == b""

    def test_without_an_end_they_take_no_memory(self, server: Running) -> None:
        with server.connect() as client:
            client.send(b"GET /items/a HTTP/1.1\r\nHost: localhost\r\nX: ")
            for _ in range(80):
                client.send(b"x" * 1000)
                time.sleep(0.0005)
            assert client.answer().status == 431

    def test_large_ones_that_still_fit(self, server: Running) -> None:
        with server.connect() as client:
            assert client.ask("GET", "/items/a", x="y" * 30_000).status == 200


class TestHungClients:
    LIMITS = LimitsConfig(
        header_timeout_s=0.3, idle_timeout_s=0.4, body_timeout_s=0.3, slow_client_timeout_s=0.3, max_connections=2000
    )

    def test_no_request(self) -> None:
        with running(limits=self.LIMITS) as server, server.connect() as client:
            started = time.monotonic()
            assert client.rest() == b""
            assert 0.25 < time.monotonic() - started < 5

    def test_half_a_header(self) -> None:
        with running(limits=self.LIMITS) as server, server.connect() as client:
            client.send(b"GET /items/a HTTP/1.1\r\nHo")
            answer = client.answer()
            assert (answer.status, answer.error["code"]) == (408, "header_timeout")
            assert client.rest() == b""

    def test_a_header_in_drips(self) -> None:
        with running(limits=self.LIMITS) as server, server.connect() as client:
            client.send(b"GET /items/a HTTP/1.1\r\n")
            for _ in range(12):
                client.send(b"X: y\r\n")
                time.sleep(0.05)
            assert client.answer().status == 408

    def test_nothing_behind_an_answer(self) -> None:
        with running(limits=self.LIMITS) as server, server.connect() as client:
            assert client.ask("POST", "/echo", BODY).status == 200
            started = time.monotonic()
            assert client.rest() == b""
            assert 0.3 < time.monotonic() - started < 5

    def test_half_a_header_behind_an_answer(self) -> None:
        with running(limits=self.LIMITS) as server, server.connect() as client:
            assert client.ask("POST", "/echo", BODY).status == 200
            client.send(b"GET /items/a HT")
            assert client.answer().status == 408

    def test_an_answer_that_is_not_read_does_not_keep_the_connection(self) -> None:
        with running(limits=self.LIMITS) as server, server.connect() as client:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.send(request(server.port, "POST", "/echo", b'"' + b"x" * 9_000_000 + b'"'))
            wait_until(lambda: not server.server.connections.open)

    def test_more_connections_than_allowed_are_told_so(self) -> None:
        with running(limits=LimitsConfig(max_connections=2)) as server:
            first, second = server.connect(), server.connect()
            assert first.ask("POST", "/echo", BODY).status == 200
            assert second.ask("POST", "/echo", BODY).status == 200
            with server.connect() as third:
                assert third.answer().error["code"] == "too_many_connections"
                assert third.is_closed
            first.socket.close()
            wait_until(lambda: len(server.server.connections.open) == 1)
            with server.connect() as fourth:
                assert fourth.ask("POST", "/echo", BODY).status == 200
            second.socket.close()

    @pytest.mark.integration
    def test_a_thousand_of_them_hinder_nobody(self) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
        limits = LimitsConfig(
            header_timeout_s=2, idle_timeout_s=2, body_timeout_s=2, slow_client_timeout_s=2, max_connections=2000
        )
        stream = b'{"count":1000,"bytes":100000}'
        with running(limits=limits) as server, ExitStack() as stack:
            beginnings = [
                b"",
                b"POST /echo HTTP/1.1\r\nHost: loc",
                request(server.port, "POST", "/echo", b"{", content_length="9"),
                request(server.port, "POST", "/events", stream),
            ]
            hung = []
            for number in range(1000):
                hung.append(stack.enter_context(server.connect()))
                if number % 4 != 3 or number < 200:
                    hung[-1].send(beginnings[number % 4])
            with server.connect() as client:
                waited = []
                for _ in range(50):
                    started = time.monotonic()
                    assert client.ask("POST", "/echo", BODY).status == 200
                    waited.append(time.monotonic() - started)
                assert statistics.median(waited) < 0.5
            wait_until(lambda: not server.server.connections.open)
