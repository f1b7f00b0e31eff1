"""Ports are taken before anything is loaded, and what is wrong with them is told in a line."""

from __future__ import annotations

import socket

import pytest

from genai.errors import UsageError
from genai.jobs.serve_sockets import bind, url_of


def test_a_free_port_is_found_and_answers() -> None:
    with bind("127.0.0.1", 0, "listen.port") as listening:
        port = listening.getsockname()[1]
        assert url_of(listening) == f"http://127.0.0.1:{port}"
        socket.create_connection(("127.0.0.1", port)).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_taken_port_is_named_with_a_way_out() -> None:
    with bind("127.0.0.1", 0, "listen.port") as listening:
        port = listening.getsockname()[1]
        with pytest.raises(UsageError) as wrong, bind("127.0.0.1", port, "listen.port"):
            pass
    assert wrong.value.message == f"port {port} of 127.0.0.1 is taken"
    assert wrong.value.where == "listen.port"
    assert f"listen.port={port + 1}" in str(wrong.value.fix)


def test_an_address_of_another_machine() -> None:
    with pytest.raises(UsageError, match=r"192\.0\.2\.1 is no address of this machine"), bind("192.0.2.1", 0, "x.port"):
        pass


def test_all_addresses_are_told_as_one_that_can_be_asked() -> None:
    with bind("0.0.0.0", 0, "listen.port") as listening:
        assert url_of(listening).startswith("http://127.0.0.1:")
