"""The ports of a server, taken before anything is loaded."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from genai.errors import UsageError

_BACKLOG = 2048


@contextmanager
def bind(host: str, port: int, key: str) -> Iterator[socket.socket]:
    """A socket that listens, for as long as the block lasts.

    Args:
        host: name or address of this machine.
        port: 0 takes a free one.
        key: of the job file that says so.

    Raises:
        UsageError: the port is taken, or the address is not one of this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise UsageError(f"{host} is no address of this machine: {error.strerror}", where=key) from error
    taken = socket.socket(family, socket.SOCK_STREAM)
    with taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(address)
            taken.listen(_BACKLOG)
        except OSError as error:
            raise _explained(error, host, port, key) from error
        taken.setblocking(False)
        taken.set_inheritable(True)
        yield taken


def url_of(listening: socket.socket) -> str:
    """How clients on this machine reach it."""
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _explained(error: OSError, host: str, port: int, key: str) -> UsageError:
    if error.errno == errno.EADDRINUSE:
        fix = f"stop what listens there, or take another one: {key}={port + 1} (0 takes a free one)"
        return UsageError(f"port {port} of {host} is taken", where=key, fix=fix)
    if error.errno == errno.EACCES:
        return UsageError(f"port {port} needs rights that this user has not", where=key, fix="take one above 1023")
    if error.errno == errno.EADDRNOTAVAIL:
        return UsageError(f"{host} is no address of this machine", where=key.replace("port", "host"))
    return UsageError(f"{host}:{port} cannot be listened on: {error.strerror}", where=key)
