"""Many streams of one server at once, and when their tokens came."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stream:
    """One answer."""

    first_s: float
    """From the request to its first token."""
    num_tokens: int


async def ask_all(port: int, prompts: Sequence[Sequence[int]], num_new: int, **extra: Any) -> dict[str, float]:
    """Ask for all answers at once, each over a connection of its own.

    Returns:
        tokens per second over all, and the median time to the first token.
    """
    started = time.perf_counter()
    streams = await asyncio.gather(*(ask(port, ids, num_new, extra) for ids in prompts))
    wall_s = time.perf_counter() - started
    assert all(stream.num_tokens == num_new for stream in streams), [stream.num_tokens for stream in streams]
    return {
        "tokens_per_s": sum(stream.num_tokens for stream in streams) / wall_s,
        "ttft_ms": statistics.median(stream.first_s for stream in streams) * 1000,
    }


async def ask(port: int, ids: Sequence[int], num_new: int, extra: Mapping[str, Any]) -> Stream:
    """One streamed completion."""
    body = json.dumps(
        {
            "model": "chat",
            "prompt": list(ids),
            "max_tokens": num_new,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            **extra,
        }
    ).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body) + body)
    first_s, num_tokens = 0.0, 0
    async for line in reader:
        if not line.startswith(b"data: {"):
            assert not line.startswith(b"HTTP/1.1 ") or line.startswith(b"HTTP/1.1 200"), line
            continue
        event = json.loads(line[6:])
        assert "error" not in event, event
        if not first_s:
            first_s = time.perf_counter() - started
        if event.get("usage"):
            num_tokens = event["usage"]["completion_tokens"]
    writer.close()
    return Stream(first_s, num_tokens)
