"""A relay between a client and a server, in which the faults of a network are planted."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress


class Wire:
    """A TCP relay to a server. It can break connections, stand still, and go away for a while."""

    def __init__(self, server: str) -> None:
        self._target = ("127.0.0.1", int(server.rpartition(":")[2]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.break_after_bytes: list[int] = []
        """How many bytes from the server the next connections let through."""
        self.stop_after_bytes: int | None = None
        """After how many bytes to the server, of all connections together, they all stand still."""
        self.connections = 0
        self.sent_bytes = 0
        """What all connections together have let through to the server."""
        threading.Thread(target=self._accept, daemon=True).start()

    def go_away(self, for_s: float) -> None:
        """Refuse connections for some seconds."""
        port = self._listener.getsockname()[1]
        self.close()

        def come_back() -> None:
            time.sleep(for_s)
            self._listener = socket.create_server(("127.0.0.1", port))
            self._accept()

        threading.Thread(target=come_back, daemon=True).start()

    def break_all(self) -> None:
        """End the connections that are open."""
        for end in list(self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Accept no more connections."""
        if self._listener.fileno() >= 0:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def _accept(self) -> None:
        listener = self._listener
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            allowed = self.break_after_bytes.pop(0) if self.break_after_bytes else None
            server = socket.create_connection(self._target)
            self._open |= {client, server}
            threading.Thread(target=self._pass, args=(client, server, None, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, allowed, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, allowed: int | None, up: bool) -> None:
        with source, target:
            try:
                while data := source.recv(65_536 if allowed is None else min(allowed, 65_536)):
                    while up and self.stop_after_bytes is not None and self.sent_bytes >= self.stop_after_bytes:
                        time.sleep(0.01)
                    target.sendall(data)
                    allowed = None if allowed is None else allowed - len(data)
                    if allowed == 0:
                        break
                    if up:
                        self.sent_bytes += len(data)
                for end in (source, target):
                    end.shutdown(socket.SHUT_RDWR)
            except OSError:
                return
            finally:
                self._open -= {source, target}
