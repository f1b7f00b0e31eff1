from __future__ import annotations

import json
import logging
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from serving_http import PATIENCE_S, Running, request, running, wait_until

from genai.config.serve import LimitsConfig, ListenConfig
from genai.serving.exchange import Caller

BODY = b'{"a":1}'


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def guarded() -> Iterator[Running]:
    with running(keys={"secret-1": Caller("app"), "secret-2": Caller("other", frozenset({"faq"}))}) as found:
        yield found


@pytest.fixture(scope="module")
def small() -> Iterator[Running]:
    with running(limits=LimitsConfig(max_body="1kb", body_timeout_s=0.3)) as found:
        yield found


def reset(client_socket: socket.socket) -> None:
    """Vanish without a word."""
    client_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client_socket.close()


class TestDispatch:
    def test_an_answer_has_length_and_id(self, server: Running) -> None:
        with server.connect() as client:
            answer = client.ask("POST", "/echo", BODY)
        assert (answer.status, answer.body) == (200, BODY)
        assert answer.headers["content-length"] == str(len(BODY))
        assert answer.headers["content-type"] == "application/json"
        assert len(answer.headers["x-request-id"]) == 24
        assert "server" not in answer.headers

    def test_an_unknown_path_is_404_in_openais_form(self, server: Running) -> None:
        with server.connect() as client:
            answer = client.ask("POST", "/v2/nothing", BODY)
            assert answer.status == 404
            assert answer.error == {
                "message": "there is nothing at /v2/nothing; /openapi.json has all paths",
                "type": "not_found_error",
                "param": None,
                "code": "not_found",
            }
            assert client.ask("POST", "/echo", BODY).status == 200

    def test_a_wrong_method_is_405_with_those_that_are_right(self, server: Running) -> None:
        with server.connect() as client:
            answer = client.ask("GET", "/echo")
            assert (answer.status, answer.headers["allow"]) == (405, "OPTIONS, POST")
            assert client.ask("DELETE", "/items/a").headers["allow"] == "GET, HEAD, OPTIONS"

    def test_parts_of_a_path_are_decoded_and_a_slash_in_them_stays(self, server: Running) -> None:
        with server.connect() as client:
            assert client.ask("GET", "/items/a%20b%2Fc?x=1").json == {"name": "a b/c"}
            assert client.ask("GET", "/items/").status == 404
            assert client.ask("GET", "/items/a/b").status == 404

    def test_head_is_get_without_a_body(self, server: Running) -> None:
        with server.connect() as client:
            head = client.ask("HEAD", "/items/abc")
            assert head.headers["content-length"] == str(len(client.ask("GET", "/items/abc").body))

    def test_options_tells_what_can_be_done(self, server: Running) -> None:
        with server.connect() as client:
            answer = client.ask("OPTIONS", "/items/a")
            assert (answer.status, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
            assert client.ask("GET", "/items/a").status == 200

    def test_an_apis_error_is_told_as_it_is(self, server: Running) -> None:
        with server.connect() as client:
            answer = client.ask("POST", "/refuse", BODY)
            assert answer.status == 400
            assert answer.error == {
                "message": "not so",
                "type": "invalid_request_error",
                "param": "prompt",
                "code": "nope",
            }

    def test_a_fault_of_ours_tells_nothing_but_the_id(
        self, server: Running, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logging.getLogger("genai"), "propagate", True)
        with server.connect() as client:
            answer = client.ask("POST", "/fail", BODY, x_request_id="abc-1")
        assert answer.status == 500
        assert answer.error["message"] == "internal error; the server's log has more under the request id abc-1"
        assert b"secret" not in answer.body
        wait_until(lambda: "request abc-1 failed" in caplog.text)
        assert "secret inner detail" in caplog.text

    def test_a_repeated_header_that_decides_is_refused(self, server: Running) -> None:
        with server.connect() as client:
            client.send(b"GET /items/a HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
            assert client.answer().error["code"] == "repeated_header"


class TestRequestId:
    def test_a_harmless_one_is_kept(self, server: Running) -> None:
        with server.connect() as client:
            answer = client.ask("POST", "/echo", BODY, x_request_id="my.id_7-A")
            assert answer.headers["x-request-id"] == "my.id_7-A"

    @pytest.mark.parametrize("wanted", ["a b", "x" * 65, "ü", "a;b", '"'])
    def test_another_is_replaced(self, server: Running, wanted: str) -> None:
        with server.connect() as client:
            answer = client.ask("POST", "/echo", BODY, x_request_id=wanted)
            assert answer.headers["x-request-id"] != wanted

    def test_two_at_once_are_told_apart(self) -> None:
        with running() as server, server.connect() as first, server.connect() as second:
            first.send(request(server.port, "POST", "/wait", BODY, x_request_id="same"))
            assert server.seen.begun.wait(PATIENCE_S)
            assert second.ask("POST", "/echo", BODY, x_request_id="same").headers["x-request-id"] != "same"
            server.seen.release.set()
            assert first.answer().headers["x-request-id"] == "same"


class TestHost:
    @pytest.mark.parametrize("host", ["localhost", "localhost:80", "127.0.0.1:1", "[::1]:9", "LOCALHOST."])
    def test_loopback_names_are_ours(self, server: Running, host: str) -> None:
        with server.connect() as client:
            assert client.ask("GET", "/items/a", host=host).status == 200

    @pytest.mark.parametrize("host", ["evil.example", "192.168.0.7", "localhost.evil.example", "[::2]"])
    def test_others_are_not(self, server: Running, host: str) -> None:
        with server.connect() as client:
            assert client.ask("GET", "/items/a", host=host).status == 421

    def test_there_must_be_one(self, server: Running) -> None:
        with server.connect() as client:
            assert client.ask("GET", "/items/a", host="").error["code"] == "missing_host"

    def test_the_operator_names_further_ones(self) -> None:
        listen = ListenConfig(allowed_hosts=["api.example.com", "*.example.org"])
        with running(listen=listen) as server, server.connect() as client:
            assert client.ask("GET", "/items/a", host="api.example.com:443").status == 200
            assert client.ask("GET", "/items/a", host="x.y.example.org").status == 200
            assert client.ask("GET", "/items/a", host="example.org").status == 421

    def test_on_all_addresses_any_address_is_ours_and_no_name(self) -> None:
        with running(listen=ListenConfig(host="0.0.0.0")) as server, server.connect() as client:
            assert client.ask("GET", "/items/a", host="192.168.0.7:8080").status == 200
            assert client.ask("GET", "/items/a", host="evil.example").status == 421


class TestOrigin:
    def test_a_foreign_page_may_not_ask(self, server: Running) -> None:
        with server.connect() as client:
            for origin in ("https://evil.example", "null", "http://localhost:3000"):
                answer = client.ask("POST", "/echo", BODY, origin=origin)
                assert (answer.status, answer.error["code"]) == (403, "origin_not_allowed")

    def test_an_allowed_page_may_also_read_errors(self) -> None:
        listen = ListenConfig(allowed_origins=["https://app.example.com"])
        with running(listen=listen) as server, server.connect() as client:
            for path, status in (("/echo", 200), ("/nothing", 404)):
                answer = client.ask("POST", path, BODY, origin="https://app.example.com")
                assert answer.status == status
                assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
                assert answer.headers["vary"] == "origin"
            assert client.ask("POST", "/echo", BODY, origin="https://app.example.com.evil").status == 403

    def test_a_browser_asks_first(self) -> None:
        listen = ListenConfig(allowed_origins=["*"])
        with running(listen=listen, keys={"k": Caller("a")}) as server, server.connect() as client:
            answer = client.ask(
                "OPTIONS",
                "/echo",
                origin="https://any.example",
                access_control_request_method="POST",
                access_control_request_headers="authorization,content-type",
            )
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (204, "*")
        assert answer.headers["access-control-allow-headers"] == "authorization,content-type"
        assert "POST" in answer.headers["access-control-allow-methods"]


class TestKeys:
    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"authorization": "Bearer nope"},
            {"authorization": "Basic secret-1"},
            {"authorization": "Bearer"},
            {"authorization": "secret-1"},
            {"api_key": "nope"},
            {"authorization": "Bearer nope", "api_key": "secret-1"},
            {"authorization": "Bearer \udcff".encode("utf-8", "surrogateescape").decode("latin-1")},
        ],
    )
    def test_without_a_known_key_nothing_is_answered(self, guarded: Running, headers: dict[str, str]) -> None:
        with guarded.connect() as client:
            answer = client.ask("POST", "/echo", BODY, **headers)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert answer.error["type"] == "authentication_error"

    def test_both_ways_to_send_it(self, guarded: Running) -> None:
        with guarded.connect() as client:
            assert client.ask("POST", "/echo", BODY, authorization="Bearer secret-1").status == 200
            assert client.ask("POST", "/echo", BODY, authorization="bearer  secret-1 ").status == 200
            assert client.ask("POST", "/echo", BODY, api_key="secret-2").status == 200
        assert guarded.seen.requests[-1].caller == Caller("other", frozenset({"faq"}))

    def test_what_is_open_needs_none(self, guarded: Running) -> None:
        with guarded.connect() as client:
            assert client.ask("GET", "/open").status == 200

    def test_a_body_is_not_read_for_strangers(self, guarded: Running) -> None:
        with guarded.connect() as client:
            client.send(request(guarded.port, "POST", "/echo", b"", content_length="1000000"))
            assert client.answer().status == 401
            assert client.rest() == b""


class TestBody:
    def test_too_large_is_said_before_it_is_read(self, small: Running) -> None:
        with small.connect() as client:
            client.send(request(small.port, "POST", "/echo", b"", content_length="1025"))
            answer = client.answer()
            assert (answer.status, answer.headers["connection"]) == (413, "close")
            assert client.rest() == b""

    def test_the_answer_is_read_by_one_who_goes_on_sending(self, small: Running) -> None:
        with small.connect() as client:
            client.send(request(small.port, "POST", "/echo", b"", content_length=str(4 << 20)))
            client.send(b"x" * (4 << 20))
            assert client.answer().status == 413

    def test_pieces_are_counted(self, small: Running) -> None:
        with small.connect() as client:
            client.send(request(small.port, "POST", "/echo", content_length="", transfer_encoding="chunked"))
            for _ in range(3):
                client.send(b"200\r\n" + b" " * 512 + b"\r\n")
            assert client.answer().status == 413

    def test_pieces_make_a_body(self, small: Running) -> None:
        with small.connect() as client:
            head = request(small.port, "POST", "/echo", content_length="", transfer_encoding="chunked")
            for piece in (head, b"2\r\n[1\r\n", b"1\r\n]\r\n", b"0\r\n\r\n"):
                client.send(piece)
                time.sleep(0.02)
            assert client.answer().body == b"[1]"
            assert client.ask("POST", "/echo", BODY).status == 200

    def test_trailers_are_no_headers(self, small: Running) -> None:
        with small.connect() as client:
            head = request(small.port, "POST", "/echo", content_length="", transfer_encoding="chunked")
            client.send(head + b"2\r\n[]\r\n0\r\nx-request-id: trailer\r\n\r\n")
            assert client.answer().headers["x-request-id"] != "trailer"

    def test_too_slow(self, small: Running) -> None:
        with small.connect() as client:
            client.send(request(small.port, "POST", "/echo", b"{", content_length="7"))
            answer = client.answer()
            assert (answer.status, answer.error["code"]) == (408, "body_timeout")
            assert client.rest() == b""

    @pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
    def test_json_is_expected(self, small: Running, kind: str) -> None:
        with small.connect() as client:
            assert client.ask("POST", "/echo", BODY, content_type=kind).status == 415

    @pytest.mark.parametrize("kind", ["", "application/json; charset=utf-8", "Application/JSON", "application/x+json"])
    def test_what_passes_for_json(self, small: Running, kind: str) -> None:
        with small.connect() as client:
            assert client.ask("POST", "/echo", BODY, content_type=kind).status == 200

    def test_nothing_is_unpacked(self, small: Running) -> None:
        with small.connect() as client:
            assert client.ask("POST", "/echo", BODY, content_encoding="gzip").status == 415
            assert client.ask("POST", "/echo", BODY, content_encoding="identity").status == 200

    def test_a_large_one_comes_in_whole(self, server: Running) -> None:
        with server.connect() as client:
            body = b'"' + b"x" * 3_000_000 + b'"'
            assert client.ask("POST", "/echo", body).body == body

    def test_one_who_waits_for_a_word_gets_it(self, small: Running) -> None:
        with small.connect() as client:
            client.send(request(small.port, "POST", "/echo", content_length="7", expect="100-continue"))
            assert client.answer().status == 100
            client.send(BODY)
            assert client.answer().body == BODY

    def test_no_word_for_what_is_refused(self, small: Running) -> None:
        with small.connect() as client:
            client.send(request(small.port, "POST", "/echo", content_length="70000", expect="100-continue"))
            assert client.answer().status == 413


class TestConcurrency:
    def test_more_than_enough_come_back_later(self) -> None:
        with running(limits=LimitsConfig(max_concurrent_requests=2)) as server:
            clients = [server.connect() for _ in range(2)]
            for client in clients:
                client.send(request(server.port, "POST", "/wait", BODY))
            wait_until(lambda: server.app.under_way == 2)
            with server.connect() as third:
                answer = third.ask("POST", "/echo", BODY)
                assert (answer.status, answer.headers["retry-after"]) == (429, "1")
                assert third.ask("GET", "/open").status == 200
                server.seen.release.set()
                assert [client.answer().status for client in clients] == [200, 200]
                assert third.ask("POST", "/echo", BODY).status == 200
            for client in clients:
                client.socket.close()

    def test_one_that_is_still_coming_takes_no_place(self) -> None:
        limits = LimitsConfig(max_concurrent_requests=1)
        with running(limits=limits) as server, server.connect() as slow, server.connect() as quick:
            slow.send(request(server.port, "POST", "/echo", b"{", content_length="7"))
            assert quick.ask("POST", "/echo", BODY).status == 200
            slow.send(BODY[1:])
            assert slow.answer().status == 200


class TestDeadline:
    def test_an_answer_that_takes_too_long(self) -> None:
        with running(limits=LimitsConfig(request_timeout_s=0.2)) as server, server.connect() as client:
            answer = client.ask("POST", "/wait", BODY)
            assert (answer.status, answer.error["code"]) == (504, "timeout")
            assert server.seen.gone.is_set() and server.seen.cancelled.is_set()
            assert client.ask("POST", "/echo", BODY).status == 200

    def test_a_stream_ends_with_an_error(self) -> None:
        with running(limits=LimitsConfig(request_timeout_s=0.2)) as server, server.connect() as client:
            answer = client.ask("POST", "/events", b'{"count":1,"then":"wait"}')
            events = answer.body.split(b"\n\n")
            assert answer.status == 200
            assert json.loads(events[1].removeprefix(b"data: "))["error"]["code"] == "timeout"
            assert server.seen.closed.wait(PATIENCE_S)
            assert client.ask("POST", "/echo", BODY).status == 200


class TestStream:
    def test_events_come_as_they_are_made(self, server: Running) -> None:
        with server.connect() as client:
            answer = client.ask("POST", "/events", b'{"count":3}')
            assert answer.body == b"data: 0x\n\ndata: 1x\n\ndata: 2x\n\ndata: [DONE]\n\n"
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert answer.headers["cache-control"] == "no-cache"
            assert answer.headers["x-accel-buffering"] == "no"
            assert "content-length" not in answer.headers
            assert client.ask("POST", "/echo", BODY).status == 200

    def test_what_fails_before_the_first_event_is_an_error_of_its_own(self, server: Running) -> None:
        with server.connect() as client:
            answer = client.ask("POST", "/events", b'{"count":0,"then":"refuse"}')
            assert (answer.status, answer.error["code"]) == (429, "late")

    @pytest.mark.parametrize(("then", "code"), [("refuse", "late"), ("fail", "internal_error")])
    def test_what_fails_later_is_the_last_event(self, server: Running, then: str, code: str) -> None:
        with server.connect() as client:
            answer = client.ask("POST", "/events", json.dumps({"count": 1, "then": then}).encode())
            last = answer.body.split(b"\n\n")[1]
            assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == code
            assert b"secret" not in answer.body
            assert client.ask("POST", "/echo", BODY).status == 200

    def test_http_1_0_gets_no_chunks(self, server: Running) -> None:
        with server.connect() as client:
            body = b'{"count":2}'
            client.send(b"POST /events HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            head, _, rest = client.rest().partition(b"\r\n\r\n")
            assert b"chunked" not in head and b"connection: close" in head
            assert rest == b"data: 0x\n\ndata: 1x\n\ndata: [DONE]\n\n"


class TestGone:
    @pytest.mark.parametrize("how", ["closed", "reset"])
    def test_a_waiting_client_that_leaves_frees_its_place_at_once(self, how: str) -> None:
        with running() as server, server.connect() as client:
            client.send(request(server.port, "POST", "/wait", BODY))
            assert server.seen.begun.wait(PATIENCE_S)
            reset(client.socket) if how == "reset" else client.socket.close()
            assert server.seen.gone.wait(1) and server.seen.cancelled.wait(1)
            wait_until(lambda: server.app.under_way == 0)

    def test_a_streams_client_that_leaves(self) -> None:
        with running() as server, server.connect() as client:
            client.send(request(server.port, "POST", "/events", b'{"count":1,"then":"wait"}'))
            assert server.seen.begun.wait(PATIENCE_S)
            reset(client.socket)
            assert server.seen.gone.wait(1) and server.seen.closed.wait(1)

    def test_a_client_that_leaves_with_more_requests_on_the_way(self) -> None:
        with running() as server, server.connect() as client:
            client.send(request(server.port, "POST", "/wait", BODY) * 3)
            assert server.seen.begun.wait(PATIENCE_S)
            client.socket.close()
            assert server.seen.gone.wait(1)

    def test_a_client_that_reads_nothing(self, tmp_path: Path) -> None:
        limits = LimitsConfig(slow_client_timeout_s=0.4)
        with running(limits=limits, log_path=tmp_path / "log") as server, server.connect() as client:
            client.send(request(server.port, "POST", "/events", b'{"count":2000,"bytes":100000}'))
            assert server.seen.gone.wait(PATIENCE_S) and server.seen.closed.wait(PATIENCE_S)
            wait_until(lambda: not server.server.connections.open)
            assert server.log_lines()[0]["status"] == 200

    def test_a_client_that_reads_slowly_is_served(self) -> None:
        with running(limits=LimitsConfig(slow_client_timeout_s=0.5)) as server, server.connect() as client:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.send(request(server.port, "POST", "/events", b'{"count":150,"bytes":100000}', connection="close"))
            size = 0
            while piece := client.socket.recv(1 << 20):
                size += len(piece)
                time.sleep(0.002)
            assert size > 15_000_000
            assert server.seen.closed.is_set() and not server.seen.gone.is_set()


class TestReload:
    def test_new_services_answer_the_next_request(self) -> None:
        with running() as server, server.connect() as client:
            assert client.ask("POST", "/echo", BODY).status == 200
            old = server.services[-1]
            server.services.append(replace(old, limits=LimitsConfig(max_body="1b")))
            assert client.ask("POST", "/echo", BODY).status == 413


class TestAccessLog:
    def test_what_is_told_and_what_is_not(self, tmp_path: Path) -> None:
        with running(keys={"secret-key": Caller("app")}, log_path=tmp_path / "log") as server:
            with server.connect() as client:
                client.ask("POST", "/echo?api_key=secret-key", b'"secret text"', authorization="Bearer secret-key")
                client.ask("POST", "/secret-path", BODY, authorization="Bearer secret-key")
                client.ask("GET", "/items/secret-item", authorization="Bearer secret-key", user_agent="x" * 500)
                client.ask("POST", "/echo", BODY, authorization="Bearer secret-wrong")
            first, second, third, fourth = server.log_lines()
        assert "secret" not in (tmp_path / "log").read_text()
        assert (first["app"], first["path"], first["status"], first["model"]) == ("app", "/echo", 200, "faq")
        assert (first["prompt_tokens"], first["num_bytes"], first["client"]) == (3, 13, "127.0.0.1")
        assert 0 < first["duration_s"] < PATIENCE_S
        assert (second["path"], second["status"], second["error"]) == ("(unknown)", 404, "not_found")
        assert third["path"] == "/items/{name}"
        assert len(third["user_agent"]) == 120
        assert (fourth["app"], fourth["error"]) == ("", "invalid_api_key")

    def test_a_client_that_left_is_499(self, tmp_path: Path) -> None:
        with running(log_path=tmp_path / "log") as server:
            with server.connect() as client:
                client.send(request(server.port, "POST", "/wait", BODY))
                assert server.seen.begun.wait(PATIENCE_S)
            assert server.seen.cancelled.wait(PATIENCE_S)
            wait_until(lambda: bool(server.log_lines()))
            assert server.log_lines()[0]["status"] == 499
