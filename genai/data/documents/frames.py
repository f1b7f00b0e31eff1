"""Messages between a process and its parser: a JSON object and some bytes, each with its length before it.

Plain values only: what comes from a process that has read a stranger's file must not be able to run anything here.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import Any

_LENGTHS = struct.Struct(">QQ")
_BLOCK_BYTES = 1 << 20


class BrokenFrameError(Exception):
    """The other side is gone, or what it sends is no message."""


def send(
    connection: socket.socket, header: dict[str, Any], body: bytes = b"", *, deadline: float | None = None
) -> None:
    """Send one message.

    Args:
        connection: a stream.
        header: plain values.
        body: bytes that belong to them.
        deadline: of `time.monotonic`; None to wait for ever.

    Raises:
        BrokenFrameError: the other side is gone.
        TimeoutError: it does not read.
    """
    head = json.dumps(header).encode()
    try:
        _set_timeout(connection, deadline)
        connection.sendall(_LENGTHS.pack(len(head), len(body)) + head)
        _set_timeout(connection, deadline)
        connection.sendall(body)
    except ConnectionError as error:
        raise BrokenFrameError(str(error)) from error


def receive(
    connection: socket.socket, *, max_bytes: int | None = None, deadline: float | None = None
) -> tuple[dict[str, Any], bytes]:
    """The next message.

    Args:
        connection: a stream.
        max_bytes: a longer message is not read; None reads any.
        deadline: of `time.monotonic`; None to wait for ever.

    Raises:
        BrokenFrameError: the other side is gone, or sends something else.
        TimeoutError: nothing came, or not all of it.
    """
    num_head, num_body = _LENGTHS.unpack(_receive_exactly(connection, _LENGTHS.size, deadline))
    if max_bytes is not None and num_head + num_body > max_bytes:
        raise BrokenFrameError(f"a message of {num_head + num_body} bytes")
    head = _receive_exactly(connection, num_head, deadline)
    body = _receive_exactly(connection, num_body, deadline)
    try:
        header = json.loads(head)
    except ValueError as error:
        raise BrokenFrameError("a message that is no JSON") from error
    if not isinstance(header, dict):
        raise BrokenFrameError("a message that is no JSON object")
    return header, body


def _receive_exactly(connection: socket.socket, num_bytes: int, deadline: float | None) -> bytes:
    received = bytearray()
    while len(received) < num_bytes:
        _set_timeout(connection, deadline)
        try:
            block = connection.recv(min(num_bytes - len(received), _BLOCK_BYTES))
        except ConnectionError as error:
            raise BrokenFrameError(str(error)) from error
        if not block:
            raise BrokenFrameError("the other side is gone")
        received += block
    return bytes(received)


def _set_timeout(connection: socket.socket, deadline: float | None) -> None:
    if deadline is None:
        connection.settimeout(None)
        return
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    connection.settimeout(left_s)
