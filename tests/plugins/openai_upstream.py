"""A server that speaks OpenAI's API over real HTTP and says what a test wants."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Raw:
    """An answer byte by byte; status 0 hangs up instead."""

    status: int = 200
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Events:
    """A stream; with `pause_s` between its events, and [DONE] at its end."""

    events: Sequence[Any]
    pause_s: float = 0.0
    is_done: bool = True


def said(text: str, **message: Any) -> dict[str, Any]:
    """An ordinary reply of /v1/chat/completions."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": "stop"}
    return {"id": "x", "choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 4}}


@dataclass
class Upstream:
    """A server that remembers what it was asked."""

    url: str = ""
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    """Path, headers in small letters, body."""
    planned: list[Any] = field(default_factory=list)
    """Answers that come first, as `answer` gives them."""
    answer: Callable[[Any], Any] = lambda body: said("ok")
    """From a body to what is answered: a `Raw`, `Events`, or a value as JSON."""
    delay_s: float = 0.0
    at_once: int = 0
    most_at_once: int = 0
    connections: int = 0

    @property
    def bodies(self) -> list[Any]:
        """Of the requests so far."""
        return [body for _, _, body in self.requests]


@contextmanager
def openai_upstream() -> Iterator[Upstream]:
    """A server in a thread, until the block ends."""
    state, lock = Upstream(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            state.connections += 1

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            with lock:
                state.requests.append((self.path, headers, body))
                state.at_once += 1
                state.most_at_once = max(state.most_at_once, state.at_once)
                told = state.planned.pop(0) if state.planned else None
            try:
                time.sleep(state.delay_s)
                self.tell(state.answer(body) if told is None else told)
            except OSError:
                self.close_connection = True  # the asker went away
            finally:
                with lock:
                    state.at_once -= 1

        def tell(self, told: Any) -> None:
            if isinstance(told, Events):
                self.stream(told)
                return
            raw = told if isinstance(told, Raw) else Raw(content=json.dumps(told).encode())
            if raw.status == 0:
                self.close_connection = True
                return
            self.send_response(raw.status)
            for name, value in {"Content-Type": "application/json", **raw.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(raw.content)))
            self.end_headers()
            self.wfile.write(raw.content)

        def stream(self, told: Events) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            pieces = [f"data: {json.dumps(event)}\n\n" for event in told.events]
            for piece in [": a comment\n\n", *pieces, *(["data: [DONE]\n\n"] if told.is_done else [])]:
                data = piece.encode()
                self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
                time.sleep(told.pause_s)
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
