from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from genai.data.documents.frames import BrokenFrameError, receive, send


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_messages_come_as_they_were_sent(ends: tuple[socket.socket, socket.socket]) -> None:
    body = bytes(range(256)) * 20_000  # more than a socket holds
    sender = threading.Thread(target=lambda: [send(ends[0], {"a": ["é", 1]}, body), send(ends[0], {})])
    sender.start()
    assert receive(ends[1]) == ({"a": ["é", 1]}, body)
    assert receive(ends[1], deadline=time.monotonic() + 5) == ({}, b"")
    sender.join()


def test_the_other_side_is_gone(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].sendall(b"\0\0\0")
    ends[0].close()
    with pytest.raises(BrokenFrameError):
        receive(ends[1])
    with pytest.raises(BrokenFrameError):
        send(ends[1], {}, b"x" * 1_000_000)


@pytest.mark.parametrize("head", [b"no json", b"[1]"])
def test_what_is_no_message(head: bytes, ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].sendall(struct.pack(">QQ", len(head), 0) + head)
    with pytest.raises(BrokenFrameError, match="no JSON"):
        receive(ends[1])


def test_a_message_that_is_too_long_is_not_read(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].sendall(struct.pack(">QQ", 10, 1 << 60))
    with pytest.raises(BrokenFrameError, match="bytes"):
        receive(ends[1], max_bytes=1000)


def test_deadlines(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(TimeoutError):
        receive(ends[1], deadline=time.monotonic() + 0.05)
    with pytest.raises(TimeoutError):
        receive(ends[1], deadline=time.monotonic() - 1)
    with pytest.raises(TimeoutError):
        send(ends[0], {}, b"x" * 10_000_000, deadline=time.monotonic() + 0.05)
