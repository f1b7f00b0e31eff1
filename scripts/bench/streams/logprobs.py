"""How far one server's log-probabilities are from another's, on the same texts."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from streams.server import Server


async def compare_logprobs(
    servers: Mapping[str, Server], prompts: Sequence[Sequence[int]], num_new: int
) -> dict[str, float]:
    """Let the bfloat16 server continue the prompts, and both servers read prompts and continuations.

    Returns:
        mean and largest absolute difference of the log-probability of a token, and both perplexities.
    """
    texts = []
    for ids in prompts:
        answer = await post(servers["ours"].port, list(ids), max_tokens=num_new)
        texts.append([*ids, *await tokens(servers["ours"].port, answer["choices"][0]["text"])])
    ours, int8 = [await read(servers[name].port, texts) for name in ("ours", "ours int8")]
    differences = [abs(first - second) for first, second in zip(ours, int8, strict=True)]
    return {
        "num_tokens": len(differences),
        "mean": sum(differences) / len(differences),
        "max": max(differences),
        "perplexity": math.exp(-sum(int8) / len(int8)),
        "perplexity_bf16": math.exp(-sum(ours) / len(ours)),
    }


async def read(port: int, texts: Sequence[Sequence[int]]) -> list[float]:
    """The log-probability of each token but the first of each text."""
    found: list[float] = []
    for ids in texts:
        answer = await post(port, list(ids), max_tokens=0, echo=True, logprobs=0)
        found += answer["choices"][0]["logprobs"]["token_logprobs"][1:]
    return found


async def tokens(port: int, text: str) -> list[int]:
    """Token ids of a text."""
    answer = await _post(port, "/v1/tokenize", {"model": "chat", "prompt": text, "add_special_tokens": False})
    ids: list[int] = answer["tokens"]
    return ids


async def post(port: int, prompt: list[int], **parameters: Any) -> dict[str, Any]:
    """A completion."""
    body = {"model": "chat", "prompt": prompt, "temperature": 0, **parameters}
    return await _post(port, "/v1/completions", body)


async def _post(port: int, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    data = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n"
    writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(data) + data)
    answer = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert answer[0].startswith(b"HTTP/1.1 200"), answer
    told: dict[str, Any] = json.loads(answer[2])
    return told
