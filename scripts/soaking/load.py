"""Those who ask: some forty of them, each one thing after the other, drawn at random; clients that are well-behaved,
wrong, impatient or half dead. What comes back is held against what has to come.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx

from soaking.server import KEY, MAX_MODEL_LEN

_TOPICS = ("floors", "roofs", "walls", "money")
_WORDS = ("screed", "tile", "gutter", "beam", "oak", "parquet", "invoice", "slope", "brick", "lime", "glass", "door")
_BUSY = {429, 503}
"""Answers that say: not now."""
_PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
_TIMEOUT_S = 120.0
_MAX_SURPRISES = 20


class Surprise(Exception):
    """An answer that is not what has to come."""


class Load:
    """Asks for as long as it is let.

    Args:
        url: of the server.
        num_clients: who ask at the same time.
        seed: of what they ask.
    """

    def __init__(self, url: str, *, num_clients: int, seed: int = 0) -> None:
        self.answered: Counter[str] = Counter()
        """Kind of question -> how often it was answered as it should be."""
        self.refused: Counter[str] = Counter()
        """Kind -> how often the server said: not now."""
        self.surprises: list[str] = []
        """What went otherwise than it should, the first ones."""
        self.num_surprises = 0
        self._address = urlsplit(url)
        self._num_clients = num_clients
        self._seed = seed
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"authorization": f"Bearer {KEY}"},
            timeout=_TIMEOUT_S,
            limits=httpx.Limits(max_connections=None),
        )
        self._ending = asyncio.Event()

    async def run(self) -> None:
        """Until `end` is called and all have their last answer."""
        async with self._client:
            await self.upsert(random.Random(self._seed))  # an index of nothing cannot be asked
            await asyncio.gather(*(self._ask_on(random.Random(f"{self._seed} {n}")) for n in range(self._num_clients)))

    def end(self) -> None:
        """Let nobody begin anything new."""
        self._ending.set()

    async def _ask_on(self, draw: random.Random) -> None:
        kinds, weights = zip(*_KINDS.items(), strict=True)
        while not self._ending.is_set():
            name = draw.choices(kinds, [weight for weight, _ in weights])[0]
            try:
                busy = await asyncio.wait_for(_KINDS[name][1](self, draw), _TIMEOUT_S)
                (self.refused if busy else self.answered)[name] += 1
            except (Surprise, httpx.HTTPError, OSError, ValueError, KeyError, TimeoutError) as error:
                self._note(f"{name}: {type(error).__name__}: {error}")
            await asyncio.sleep(draw.expovariate(10))

    def _note(self, surprise: str) -> None:
        self.num_surprises += 1
        if len(self.surprises) < _MAX_SURPRISES:
            self.surprises.append(surprise[:500])

    # --- questions that are answered ----------------------------------------------------------------------------------

    async def chat(self, draw: random.Random, model: str = "chat") -> bool:
        return await self._post("chat/completions", **_chat(draw, model))

    async def adapter(self, draw: random.Random) -> bool:
        return await self.chat(draw, "lora")

    async def streamed(self, draw: random.Random) -> bool:
        body = {**_chat(draw), "stream": True, "stream_options": {"include_usage": True}}
        last = ""
        async with self._lines(body) as (status, lines):
            if status in _BUSY:
                return True
            _expect(status, 200, "")
            async for line in lines:
                last = line or last
        if last != "data: [DONE]":
            raise Surprise(f"the stream ended with {last!r}")
        return False

    async def several(self, draw: random.Random) -> bool:
        return await self._post("chat/completions", **_chat(draw), n=3, stop=["\n", "."], logprobs=True, top_logprobs=3)

    async def completions(self, draw: random.Random) -> bool:
        return await self._post(
            "completions", model="chat", prompt=[_text(draw, 20), _text(draw, 40)], max_tokens=8, echo=True, logprobs=2
        )

    async def schema(self, draw: random.Random) -> bool:
        form = {"type": "json_schema", "json_schema": {"name": "person", "schema": _PERSON, "strict": True}}
        answer = await self._answer("chat/completions", {**_chat(draw), "max_tokens": 48, "response_format": form})
        if answer.status_code == 200:
            choice = answer.json()["choices"][0]
            if choice["finish_reason"] == "stop" and set(json.loads(choice["message"]["content"])) != {"name", "age"}:
                raise Surprise(f"not of the schema: {choice}")
        return _is_busy(answer, 200)

    async def embeddings(self, draw: random.Random) -> bool:
        texts = [_text(draw, draw.randint(3, 60)) for _ in range(draw.randint(1, 8))]
        return await self._post("embeddings", model="minilm", input=texts)

    async def query(self, draw: random.Random) -> bool:
        how: dict[str, Any] = draw.choice([{}, {"filter": {"topic": draw.choice(_TOPICS)}}, {"mode": "hybrid"}])
        return await self._post("indexes/docs/query", query=_text(draw, 5), k=5, **how)

    async def upsert(self, draw: random.Random) -> bool:
        number = draw.randrange(200)
        row = {"id": str(number), "text": _text(draw, 30), "topic": draw.choice(_TOPICS), "number": number}
        return await self._post("indexes/docs/upsert", rows=[row])

    async def delete(self, draw: random.Random) -> bool:
        return await self._post("indexes/docs/delete", keys=[str(draw.randrange(200))])

    async def tokenize(self, draw: random.Random) -> bool:
        return await self._post("tokenize", model="chat", prompt=_text(draw, 200))

    async def look(self, draw: random.Random) -> bool:
        path = draw.choice(["/metrics", "/healthz", "/readyz", "/v1/models", "/openapi.json"])
        return _is_busy(await self._client.get(path), 200)

    # --- questions that are refused -----------------------------------------------------------------------------------

    async def unknown_model(self, draw: random.Random) -> bool:
        return await self._post("chat/completions", 404, **_chat(draw, "chatt"))

    async def bad_schema(self, draw: random.Random) -> bool:
        bad = draw.choice(
            [{"type": "objekt"}, {"$ref": "#/nowhere"}, {"type": "string", "pattern": "(("}, {"enum": []}]
        )
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": bad, "strict": True}}
        return await self._post("chat/completions", 400, **_chat(draw), response_format=form)

    async def too_long(self, draw: random.Random) -> bool:
        return await self._post("completions", 400, model="chat", prompt=_text(draw, 2 * MAX_MODEL_LEN))

    async def bad_parameter(self, draw: random.Random) -> bool:
        wrong: dict[str, Any] = draw.choice([{"temperature": 9}, {"max_tokens": -1}, {"topp": 1}, {"n": 1000}])
        return await self._post("chat/completions", 400, **{**_chat(draw), **wrong})

    async def bad_key(self, draw: random.Random) -> bool:
        headers = {"authorization": "Bearer key-of-somebody-else-x"}
        answer = await self._client.post("/v1/chat/completions", json=_chat(draw), headers=headers)
        return _is_busy(answer, 401)

    async def no_json(self, draw: random.Random) -> bool:
        return _is_busy(await self._client.post("/v1/chat/completions", content=b'{"model": "chat"'), 400)

    # --- clients that vanish ------------------------------------------------------------------------------------------

    async def vanishes_in_a_stream(self, draw: random.Random) -> bool:
        body = {**_chat(draw), "stream": True, "max_tokens": 300, "ignore_eos": True, "n": draw.choice([1, 2])}
        async with self._lines(body) as (_, lines):
            for _ in range(draw.randint(1, 6)):
                await anext(lines, None)
        return False

    async def vanishes_before_the_answer(self, draw: random.Random) -> bool:
        body = {**_chat(draw), "max_tokens": 300, "ignore_eos": True}
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._answer("chat/completions", body), draw.uniform(0.01, 1.5))
        return False

    async def vanishes_in_its_request(self, draw: random.Random) -> bool:
        whole = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {KEY}\r\n"
        whole += "content-type: application/json\r\ncontent-length: 100\r\n\r\n" + '{"model": "chat"'
        _, writer = await asyncio.open_connection(self._address.hostname, self._address.port)
        writer.write(whole[: draw.randint(1, len(whole))].encode())
        await writer.drain()
        await asyncio.sleep(draw.uniform(0, 1))
        writer.close()
        await writer.wait_closed()
        return False

    # --- HTTP ---------------------------------------------------------------------------------------------------------

    async def _post(self, path: str, status: int = 200, **body: Any) -> bool:
        return _is_busy(await self._answer(path, body), status)

    async def _answer(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return await self._client.post(f"/v1/{path}", json=body)

    @contextlib.asynccontextmanager
    async def _lines(self, body: dict[str, Any]) -> AsyncIterator[tuple[int, AsyncIterator[str]]]:
        async with self._client.stream("POST", "/v1/chat/completions", json=body) as answer:
            yield answer.status_code, answer.aiter_lines()


def _is_busy(answer: httpx.Response, status: int) -> bool:
    """Whether it says: not now; raises when it is neither that nor what has to come."""
    if answer.status_code in _BUSY:
        return True
    _expect(answer.status_code, status, answer.text)
    return False


def _expect(found: int, status: int, text: str) -> None:
    if found != status:
        raise Surprise(f"{found} in place of {status}: {text[:300]}")


def _chat(draw: random.Random, model: str = "chat") -> dict[str, Any]:
    # some begin alike, so that beginnings are shared
    system = {"role": "system", "content": f"You know all about {_TOPICS[draw.randrange(2)]}. " + "Be short. " * 8}
    user = {"role": "user", "content": f"What is {_text(draw, draw.randint(2, 60))}?"}
    seed = {"seed": draw.randrange(100)} if draw.random() < 0.5 else {}
    return {"model": model, "messages": [system, user], "max_tokens": draw.randint(1, 48), "temperature": 0.8, **seed}


def _text(draw: random.Random, num_words: int) -> str:
    return " ".join(draw.choices(_WORDS, k=num_words))


_Ask = Callable[[Load, random.Random], Awaitable[bool]]
_KINDS: dict[str, tuple[int, _Ask]] = {
    "chat": (8, Load.chat),
    "chat, streamed": (12, Load.streamed),
    "chat, adapter": (6, Load.adapter),
    "chat, n and stop": (3, Load.several),
    "chat, schema": (4, Load.schema),
    "completions, echo": (3, Load.completions),
    "embeddings": (8, Load.embeddings),
    "index query": (10, Load.query),
    "index upsert": (3, Load.upsert),
    "index delete": (1, Load.delete),
    "tokenize": (3, Load.tokenize),
    "health, metrics, models": (4, Load.look),
    "unknown model": (2, Load.unknown_model),
    "bad schema": (3, Load.bad_schema),
    "prompt too long": (2, Load.too_long),
    "bad parameter": (2, Load.bad_parameter),
    "bad key": (2, Load.bad_key),
    "no JSON": (2, Load.no_json),
    "vanishes in a stream": (5, Load.vanishes_in_a_stream),
    "vanishes before the answer": (4, Load.vanishes_before_the_answer),
    "vanishes in its request": (3, Load.vanishes_in_its_request),
}
"""What is asked -> how often, beside the others, and how."""


def kinds() -> Sequence[str]:
    """What is asked, in the order of tables."""
    return tuple(_KINDS)
