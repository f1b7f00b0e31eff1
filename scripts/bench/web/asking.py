"""Somebody who asks as fast as the server answers, and knows what it cost the server."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from web.servers import KEY

EVENTS = 64
SENTENCES = (
    "When is the office open on a public holiday, and who answers the phone then?",
    "The office is closed on public holidays; the hotline is there from nine to noon and takes urgent calls only.",
    "And how do I hand in a building application if I have only the drawings on paper?",
    "Bring them to the counter in room 12, where they are scanned while you wait; you get them back at once.",
)


def completion(*, stream: bool) -> dict[str, Any]:
    body = {"model": "faq", "prompt": list(range(1000, 1128)), "max_tokens": EVENTS if stream else 16}
    return body | ({"stream": True} if stream else {})


def chat(*, stream: bool) -> dict[str, Any]:
    said = [SENTENCES[number % 4] for number in range(7)]
    roles = ["user", "assistant"] * 3 + ["user"]
    messages = [{"role": role, "content": text} for role, text in zip(roles, said, strict=True)]
    body = {"model": "faq", "messages": messages, "max_tokens": EVENTS if stream else 16}
    return body | ({"stream": True} if stream else {})


def request(port: int, path: str, body: dict[str, Any]) -> bytes:
    """As the openai client sends it."""
    content = json.dumps(body).encode()
    headers = [
        f"POST {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Accept-Encoding: gzip, deflate",
        "Connection: keep-alive",
        "Accept: application/json",
        "Content-Type: application/json",
        "User-Agent: OpenAI/Python 3.54.0",
        f"Authorization: Bearer {KEY}",
        *(
            f"X-Stainless-{name}: {value}"
            for name, value in (("Lang", "python"), ("OS", "Linux"), ("Runtime", "CPython"))
        ),
        f"Content-Length: {len(content)}",
    ]
    return "\r\n".join(headers).encode() + b"\r\n\r\n" + content


class Asker(asyncio.Protocol):
    """One connection: sends the request again whenever the answer is there."""

    def __init__(self, data: bytes, times: int, *, stream: bool) -> None:
        self._data = data
        self._left = times
        self._stream = stream
        self._seen = b""
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._data)

    def data_received(self, data: bytes) -> None:
        self._seen = self._seen[-8:] + data if self._stream else self._seen + data
        if not self._is_whole():
            return
        self._seen = b""
        self._left -= 1
        assert self._transport is not None
        if self._left:
            self._transport.write(self._data)
        else:
            self._transport.close()
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"the server left after {self._seen[:300]!r}"))

    def _is_whole(self) -> bool:
        if self._stream:
            return self._seen.endswith(b"0\r\n\r\n")
        head, end, body = self._seen.partition(b"\r\n\r\n")
        if not end:
            return False
        assert head.startswith(b"HTTP/1.1 200"), self._seen[:600]
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return len(body) == int(length)


async def ask(port: int, path: str, body: dict[str, Any], *, connections: int, times: int) -> float:
    """Ask `times` times over each connection; seconds it took."""
    loop = asyncio.get_running_loop()
    data = request(port, path, body)
    started = time.perf_counter()
    askers = []
    for _ in range(connections):
        _, asker = await loop.create_connection(
            lambda: Asker(data, times, stream=bool(body.get("stream"))), "127.0.0.1", port
        )
        askers.append(asker)
    await asyncio.gather(*(asker.done for asker in askers))
    return time.perf_counter() - started


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far, all its threads, to the nanosecond (Linux)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
