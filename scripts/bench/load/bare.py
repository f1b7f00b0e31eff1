"""A load generator with nothing to it: aiohttp, as many requests under way as there may be, answers thrown away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import aiohttp


async def ask_all(url: str, bodies: Sequence[dict[str, Any]], concurrency: int) -> int:
    """Put all requests; tokens of all answers, as the server counts them."""
    left = iter(bodies)
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        tokens = await asyncio.gather(*(_ask(session, url, left) for _ in range(concurrency)))
    return sum(tokens)


async def _ask(session: aiohttp.ClientSession, url: str, left: Iterator[dict[str, Any]]) -> int:
    tokens = 0
    for body in left:
        async with session.post(url, json=body) as response:
            assert response.status == 200, await response.text()
            tokens += (await response.json())["usage"]["completion_tokens"]
    return tokens
