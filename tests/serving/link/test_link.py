"""Both ends of the socket between the HTTP workers and the engine, over a real one."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from loops import on_a_loop

from genai.errors import GenaiError, UsageError
from genai.models.generation import (
    EmbedRequest,
    EmbedResult,
    Event,
    GenerationRequest,
    ModelCard,
    RerankRequest,
    RerankResult,
    TokenLogprob,
    Usage,
)
from genai.serving.link.client import EngineClient
from genai.serving.link.messages import Abort, Events, Framed, frame
from genai.serving.link.server import EngineServer

CARD = ModelCard(name="chat", kind="text", state="ready", reference="x", folder="/x", fingerprint="sha256:0", created=1)


class FakeHost:
    """Notes what it is asked; answers when told to."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.aborted: list[str] = []
        self.came = asyncio.Event()

    def generate(self, requests: Sequence[GenerationRequest]) -> None:
        self.requests += requests
        self.came.set()

    def embed(self, request: EmbedRequest) -> None:
        self.requests.append(request)
        self.came.set()

    def rerank(self, request: RerankRequest) -> None:
        self.requests.append(request)
        self.came.set()

    def abort(self, ids: Collection[str]) -> None:
        self.aborted += ids
        self.came.set()

    async def ask(self, verb: str, values: dict[str, Any]) -> dict[str, Any]:
        if verb == "fail":
            raise UsageError("no such thing", where="here", fix="ask for another")
        if verb == "break":
            raise ZeroDivisionError("by zero")
        return {"verb": verb, **values}

    async def next(self) -> None:
        await asyncio.wait_for(self.came.wait(), 5)
        self.came.clear()


@asynccontextmanager
async def linked(folder: Path, **options: Any) -> AsyncIterator[tuple[EngineServer, FakeHost, EngineClient]]:
    server, host, client = EngineServer(folder / "s"), FakeHost(), EngineClient(folder / "s", **options)
    await server.start(host)
    client.start()
    try:
        await asyncio.wait_for(client.until_connected(), 5)
        yield server, host, client
    finally:
        client.close()
        server.close()
        await asyncio.sleep(0)


def request(name: str) -> GenerationRequest:
    return GenerationRequest(id=name, model="chat", prompt_ids=[1, 2])


@on_a_loop
async def test_events_reach_who_asked_and_those_that_came_together_are_one(tmp_path: Path) -> None:
    async with linked(tmp_path) as (server, host, client):
        answers = client.generate([request("a"), request("b")])
        other = client.generate([request("c")])
        await host.next()
        logprob = TokenLogprob(token_id=7, text="x", data=b"\xff", logprob=-0.5, rank=1)
        server.publish_events([Event(id="a", text="He", token_ids=[1], logprobs=[logprob]), Event(id="c", text="!")])
        server.publish_events([Event(id="a", text="llo", token_ids=[2]), Event(id="nobody", text="?")])
        assert (await other.next())[0].text == "!"
        await asyncio.sleep(0.05)
        (event,) = await answers.next()
        assert (event.text, event.token_ids, event.logprobs) == ("Hello", [1, 2], [logprob])
        usage = Usage(prompt_tokens=2, completion_tokens=2)
        server.publish_events([Event(id="a", finish_reason="stop", usage=usage), Event(id="b", finish_reason="length")])
        assert [(each.id, each.finish_reason) for each in await answers.next()] == [("a", "stop"), ("b", "length")]
        answers.abort()
        await asyncio.sleep(0.05)
        assert host.aborted == []


@on_a_loop
async def test_what_a_vanished_client_asked_is_given_up(tmp_path: Path) -> None:
    async with linked(tmp_path) as (_, host, client):
        client.generate([request("a")])
        await host.next()
        client.close()
        await host.next()
        assert host.aborted == ["a"]


@on_a_loop
async def test_one_connection_cannot_end_what_another_asked(tmp_path: Path) -> None:
    async with linked(tmp_path) as (_, host, client):
        client.generate([request("a")])
        await host.next()
        _, stranger = await asyncio.get_running_loop().create_unix_connection(
            lambda: Framed(lambda _: None, lambda: None), str(tmp_path / "s")
        )
        stranger.send(Abort(["a"]))
        await host.next()
        assert host.aborted == []


@on_a_loop
async def test_abort_asks_for_the_open_ones_only(tmp_path: Path) -> None:
    async with linked(tmp_path) as (server, host, client):
        answers = client.generate([request("a"), request("b")])
        await host.next()
        server.publish_events([Event(id="a", finish_reason="stop")])
        await answers.next()
        answers.abort()
        await host.next()
        assert host.aborted == ["b"]
        server.publish_events([Event(id="b", finish_reason="abort")])
        assert (await answers.next())[0].finish_reason == "abort"


@on_a_loop
async def test_vectors_and_scores(tmp_path: Path) -> None:
    async with linked(tmp_path) as (server, host, client):
        waiting = asyncio.create_task(client.embed(EmbedRequest(id="e", model="m", texts=["x"])))
        await host.next()
        server.publish_embedded(EmbedResult(id="e", vectors=[b"\0\0\x80?"], num_tokens=3))
        assert (await waiting).vectors == [b"\0\0\x80?"]
        scoring = asyncio.create_task(client.rerank(RerankRequest(id="r", model="m", query="q", texts=["x"])))
        await host.next()
        scoring.cancel()
        await host.next()
        assert host.aborted == ["r"]
        server.publish_reranked(RerankResult(id="r", scores=[0.5]))
        with pytest.raises(asyncio.CancelledError):
            await scoring


@on_a_loop
async def test_a_fallen_engine_ends_requests_with_a_fault_and_is_found_again(tmp_path: Path) -> None:
    async with linked(tmp_path) as (server, host, client):
        answers = client.generate([request("a")])
        embedding = asyncio.create_task(client.embed(EmbedRequest(id="e", model="m", texts=["x"])))
        asking = asyncio.create_task(client.ask("wait"))
        await host.next()
        server.close()
        (event,) = await asyncio.wait_for(answers.next(), 5)
        assert event.fault is not None and event.fault.code == "failed"
        fault = (await embedding).fault
        assert fault is not None and fault.code == "failed"
        await asyncio.gather(asking, return_exceptions=True)
        (refused,) = await client.generate([request("b")]).next()
        assert refused.fault is not None and refused.fault.code == "not_loaded"
        again = EngineServer(tmp_path / "s")
        await again.start(host)
        again.publish_catalogue([CARD], is_ready=True)
        await asyncio.wait_for(client.until_ready(), 5)
        assert client.cards == {"chat": CARD}
        again.close()


@on_a_loop
async def test_the_catalogue_comes_first_and_after_each_change(tmp_path: Path) -> None:
    async with linked(tmp_path) as (server, _, client):
        assert not client.is_ready
        internal = ModelCard(
            name="@1",
            kind="encoder",
            state="ready",
            reference="x",
            folder="",
            fingerprint="",
            created=1,
            is_internal=True,
        )
        server.publish_catalogue([CARD, internal], is_ready=True)
        await asyncio.wait_for(client.until_ready(), 5)
        assert set(client.cards) == {"chat"}
        assert set(client.all_cards) == {"chat", "@1"}


@on_a_loop
async def test_questions_of_the_operator(tmp_path: Path) -> None:
    told: list[tuple[str, float | None]] = []
    async with linked(tmp_path, on_progress=lambda *each: told.append(each)) as (server, _, client):
        assert await client.ask("status", x=1) == {"verb": "status", "x": 1}
        with pytest.raises(UsageError) as wrong:
            await client.ask("fail")
        assert (wrong.value.where, wrong.value.fix) == ("here", "ask for another")
        with pytest.raises(GenaiError, match="break failed: ZeroDivisionError: by zero"):
            await client.ask("break")
        server.publish_progress("loading", 0.5)
        await client.ask("status")
        assert told == [("loading", 0.5)]


@on_a_loop
async def test_only_the_owner_may_open_the_socket(tmp_path: Path) -> None:
    async with linked(tmp_path):
        assert stat.S_IMODE(os.stat(tmp_path / "s").st_mode) == 0o600


def test_frames_come_whole_however_the_bytes_come() -> None:
    found: list[bytes] = []
    protocol = Framed(lambda content: found.append(bytes(content)), lambda: None)
    messages = [Events([Event(id=str(number), text="x" * number)]) for number in range(50)]
    stream = b"".join(frame(message) for message in messages)
    for start in range(0, len(stream), 7):
        protocol.data_received(stream[start : start + 7])
    assert found == [bytes(frame(message)[4:]) for message in messages]
