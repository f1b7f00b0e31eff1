"""What computes for a server: requests find their model, models come and go, another job file is taken whole or not."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pytest
from index_jobs import make_word_model
from loops import on_a_loop

from genai.config.embedding import EmbeddingConfig
from genai.config.serve import ModelEndpointConfig, ServeConfig
from genai.errors import DataError, GenaiError, UsageError
from genai.jobs import serve_host
from genai.jobs.serve_host import EngineHost
from genai.jobs.serve_models import Served, ServedText, Surroundings
from genai.jobs.serve_models import make_served as make_real
from genai.models.generation import (
    AdapterCard,
    EmbedRequest,
    EmbedResult,
    Event,
    GenerationRequest,
    ModelCard,
    RerankRequest,
    RerankResult,
)
from genai.serving.link.server import EngineServer


class World:
    """What the models of a test are like."""

    def __init__(self) -> None:
        self.fingerprints: dict[str, str] = {}
        """Model reference -> what lies there; other references cannot be found."""
        self.stamps: dict[str, int] = {}
        """Adapter reference -> when it was written."""
        self.bad_adapters: set[str] = set()
        self.problem: Exception | None = None
        """Raised by the next loads."""
        self.gate = threading.Event()
        """Loading waits for it."""
        self.gate.set()
        self.holds = False
        """Whether engines keep their requests."""
        self.loaded: list[Engine] = []
        """All engines that there ever were."""
        self.rooms = 100
        """Models that fit beside one another."""

    @property
    def living(self) -> list[str]:
        return sorted(engine.reference for engine in self.loaded if not engine.is_closed)


class Engine:
    """Answers with its model's reference and the adapter's, at once or when it is closed."""

    def __init__(self, reference: str, emit: Callable[[list[Event]], None], world: World) -> None:
        self.reference = reference
        self.failed: str | None = None
        self.open: dict[str, GenerationRequest] = {}
        self.adapters: dict[str, str] = {}
        self.is_closed = False
        self._emit = emit
        self._world = world

    @property
    def num_open(self) -> int:
        return len(self.open)

    def submit(self, request: GenerationRequest) -> None:
        assert not self.is_closed, "nobody asks an engine that is gone"
        self.open[request.id] = request
        if not self._world.holds:
            self.finish()

    def finish(self) -> None:
        for request_id, request in list(self.open.items()):
            del self.open[request_id]
            text = self.adapters[request.adapter] if request.adapter else self.reference
            self._emit([Event(id=request_id, text=text, finish_reason="stop")])

    def abort(self, ids: Collection[str]) -> None:
        for each in [each for each in ids if each in self.open]:
            del self.open[each]
            self._emit([Event(id=each, finish_reason="abort")])

    def remove_adapter(self, name: str) -> None:
        del self.adapters[name]

    def stats(self) -> None:
        return None

    def drain(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self.open and time.monotonic() < deadline and not self.is_closed:
            time.sleep(0.005)
        return not self.open

    def close(self) -> None:
        self.is_closed = True
        for each in list(self.open):
            del self.open[each]
            self._emit([Event(id=each, finish_reason="error")])


class Text(ServedText):
    """A language model of the test's world."""

    world: World

    def find(self) -> None:
        reference = self.config.model
        if reference not in self.world.fingerprints:
            raise UsageError(f"there is no model '{reference}'")
        self.card = ModelCard(
            name=self.name,
            kind="text",
            state="unloaded",
            reference=reference,
            folder="/models",
            fingerprint=self.world.fingerprints[reference],
            created=1,
            adapters=[self._adapter_card(name, reference) for name, reference in self.adapters.items()],
        )

    def load(self) -> None:
        assert self.world.gate.wait(20)
        if self.world.problem is not None:
            raise self.world.problem
        engine = cast("Any", Engine(self.config.model, self.around.publish_events, self.world))
        for name, reference in self.adapters.items():
            self._add(engine, name, reference)
        self._engine = engine
        self.world.loaded.append(engine)

    def _stamp(self, reference: str) -> tuple[str, int]:
        return reference, self.world.stamps.get(reference, 0)

    def _adapter_card(self, name: str, reference: str) -> AdapterCard:
        return AdapterCard(name=name, reference=reference, fingerprint=reference, rank=4)

    def _add(self, engine: Any, name: str, reference: str) -> AdapterCard:
        if reference in self.world.bad_adapters:
            raise DataError(f"'{reference}' is for another base")
        if name not in engine.adapters and len(engine.adapters) >= self.config.engine.max_adapters:
            raise UsageError("there are too many adapters")
        self._stamps[name] = self._stamp(reference)
        engine.adapters[name] = reference
        return self._adapter_card(name, reference)


class Server:
    """Notes what is published."""

    def __init__(self) -> None:
        self.catalogues: list[tuple[list[ModelCard], bool]] = []
        self.events: dict[str, Event] = {}
        self.results: dict[str, EmbedResult | RerankResult] = {}

    def publish_events(self, events: list[Event]) -> None:
        for event in events:
            assert event.id not in self.events, f"{event.id} has two ends"
            self.events[event.id] = event

    def publish_embedded(self, result: EmbedResult) -> None:
        self.results[result.id] = result

    def publish_reranked(self, result: RerankResult) -> None:
        self.results[result.id] = result

    def publish_catalogue(self, cards: list[ModelCard], *, is_ready: bool) -> None:
        self.catalogues.append((list(cards), is_ready))

    def publish_progress(self, text: str, share: float | None = None) -> None:
        pass

    def state(self, name: str) -> str:
        return next(card.state for card in self.catalogues[-1][0] if card.name == name)

    async def end_of(self, request_id: str) -> Event:
        return cast("Event", await until(lambda: self.events.get(request_id)))

    async def result_of(self, request_id: str) -> Any:
        return await until(lambda: self.results.get(request_id))


async def until(check: Callable[[], Any]) -> Any:
    while not (found := check()):
        await asyncio.sleep(0.005)
    return found


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    world.fingerprints = {name: f"sha256:{name}" for name in ("small", "large", "other")}

    def make(name: str, config: Any, around: Surroundings) -> Served | None:
        if not isinstance(config, ModelEndpointConfig):
            return make_real(name, config, around)
        return type("Made", (Text,), {"world": world})(name, config, around)

    def check_fits(served: list[Served], config: ServeConfig, *, beside: list[Served] | None) -> None:
        wanted = [each for each in served if each.config.load == "start" or beside is not None]
        if len(wanted) + len(beside or []) > world.rooms:
            raise UsageError("the models do not fit into memory")

    monkeypatch.setattr(serve_host, "make_served", make)
    monkeypatch.setattr(serve_host, "check_fits", check_fits)
    monkeypatch.setattr(serve_host, "_LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(serve_host, "_FAILED_S", 0.2)
    return world


@pytest.fixture
def server() -> Server:
    return Server()


def config_of(limits: Mapping[str, Any] | None = None, **endpoints: Any) -> dict[str, Any]:
    return {
        "endpoints": {name: {"type": "model", **value} for name, value in endpoints.items()},
        "limits": {"drain_timeout_s": 5, **(limits or {})},
    }


async def begin(server: Server, config: Mapping[str, Any], tmp_path: Path) -> EngineHost:
    path = tmp_path / "first.yaml"
    path.write_text(json.dumps(config))
    host = EngineHost(serve_host.load(path, ServeConfig).config, cast("EngineServer", server))
    await host.start()
    return host


async def apply(host: EngineHost, config: Mapping[str, Any], tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "next.yaml"
    path.write_text(json.dumps(config))
    return await host.ask("apply", {"path": str(path)})


def request(request_id: str, model: str, adapter: str | None = None) -> GenerationRequest:
    return GenerationRequest(id=request_id, model=model, prompt_ids=[1], adapter=adapter)


# --- the beginning ----------------------------------------------------------------------------------------------------


@on_a_loop
async def test_models_of_the_start_are_there_and_others_come_with_their_first_request(
    world: World, server: Server, tmp_path: Path
) -> None:
    host = await begin(server, config_of(chat={"model": "small"}, big={"model": "large", "load": "lazy"}), tmp_path)
    assert (server.state("chat"), server.state("big"), world.living) == ("ready", "unloaded", ["small"])
    host.generate([request("1", "chat"), request("2", "big"), request("3", "nowhere"), request("4", "bigg")])
    assert (await server.end_of("1")).text == "small"
    assert (await server.end_of("2")).text == "large"
    assert server.state("big") == "ready"
    for number, says in (("3", "there is no model 'nowhere'"), ("4", "did you mean 'big'?")):
        fault = (await server.end_of(number)).fault
        assert fault is not None
        assert fault.code == "not_found"
        assert says in fault.message
    await host.close()
    assert world.living == []


@on_a_loop
async def test_nothing_stays_in_memory_when_one_of_them_cannot_be_had(
    world: World, server: Server, tmp_path: Path
) -> None:
    config = config_of(chat={"model": "small"}, more={"model": "large", "adapters": {"legal": "bad"}})
    world.bad_adapters.add("bad")
    with pytest.raises(DataError, match="another base"):
        await begin(server, config, tmp_path)
    assert world.living == []


@on_a_loop
async def test_other_kinds_of_requests_are_refused(world: World, server: Server, tmp_path: Path) -> None:
    host = await begin(server, config_of(chat={"model": "small"}), tmp_path)
    host.embed(EmbedRequest(id="e", model="chat", texts=["a"]))
    host.rerank(RerankRequest(id="r", model="chat", query="a", texts=["a"]))
    for number in "er":
        assert (await server.result_of(number)).fault.code == "not_found"
    await host.close()


# --- loading and unloading --------------------------------------------------------------------------------------------

LAZY = config_of(chat={"model": "small", "load": "lazy"})


@on_a_loop
async def test_all_that_wait_for_a_model_are_answered_but_those_who_went_away(
    world: World, server: Server, tmp_path: Path
) -> None:
    host = await begin(server, LAZY, tmp_path)
    world.gate.clear()
    host.generate([request(str(number), "chat") for number in range(5)])
    assert await until(lambda: server.state("chat") == "loading")
    host.abort(["1", "3", "unknown"])
    world.gate.set()
    assert [(await server.end_of(str(number))).finish_reason for number in range(5)] == [
        *("stop", "abort", "stop", "abort", "stop")
    ]
    assert world.living == ["small"]
    await host.close()


@on_a_loop
async def test_a_load_that_fails_is_told_and_tried_again(world: World, server: Server, tmp_path: Path) -> None:
    host = await begin(server, LAZY, tmp_path)
    world.problem = DataError("its weights are damaged")
    host.generate([request("1", "chat"), request("2", "chat")])
    for number in "12":
        fault = (await server.end_of(number)).fault
        assert fault is not None
        assert (fault.code, "its weights are damaged" in fault.message) == ("not_loaded", True)
    assert server.state("chat") == "failed"
    host.generate([request("3", "chat")])
    assert (await server.end_of("3")).fault is not None  # at once: the file is not read for each request
    world.problem = None
    assert await until(lambda: server.state("chat") == "unloaded")
    host.generate([request("4", "chat")])
    assert (await server.end_of("4")).text == "small"
    await host.close()


@pytest.mark.parametrize("problem", [MemoryError(), ValueError("a fault of ours")])
@on_a_loop
async def test_what_nobody_foresaw_is_told_too(
    world: World, server: Server, tmp_path: Path, problem: Exception
) -> None:
    host = await begin(server, LAZY, tmp_path)
    world.problem = problem
    host.generate([request("1", "chat")])
    fault = (await server.end_of("1")).fault
    assert fault is not None
    assert (str(problem) or type(problem).__name__) in fault.message
    with pytest.raises(GenaiError, match=str(problem) or "MemoryError"):
        await host.ask("load", {"model": "chat"})
    await host.close()


@on_a_loop
async def test_a_model_that_does_not_fit_is_refused_while_others_go_on(
    world: World, server: Server, tmp_path: Path
) -> None:
    host = await begin(server, config_of(chat={"model": "small"}, big={"model": "large", "load": "lazy"}), tmp_path)
    world.rooms = 1
    host.generate([request("1", "big"), request("2", "chat")])
    fault = (await server.end_of("1")).fault
    assert fault is not None
    assert "do not fit into memory" in fault.message
    assert (await server.end_of("2")).text == "small"
    assert await until(lambda: server.state("big") == "unloaded")
    await host.ask("unload", {"model": "chat"})
    host.generate([request("3", "big")])
    assert (await server.end_of("3")).text == "large"
    await host.close()


@on_a_loop
async def test_an_idle_model_gives_its_memory_back_and_comes_again(
    world: World, server: Server, tmp_path: Path
) -> None:
    host = await begin(server, config_of(chat={"model": "small", "unload_after_s": 0.1}), tmp_path)
    world.holds = True
    host.generate([request("1", "chat")])
    await asyncio.sleep(0.3)
    assert server.state("chat") == "ready"  # it works on something
    world.loaded[0].finish()
    assert await until(lambda: server.state("chat") == "unloaded")
    assert await until(lambda: not world.living)
    world.holds = False
    host.generate([request("2", "chat")])
    assert (await server.end_of("2")).text == "small"
    await host.close()


@on_a_loop
async def test_requests_that_come_while_a_model_is_unloaded_lose_nothing(
    world: World, server: Server, tmp_path: Path
) -> None:
    host = await begin(server, config_of(chat={"model": "small"}), tmp_path)
    world.holds = True
    host.generate([request("before", "chat")])
    unloading = asyncio.create_task(host.ask("unload", {"model": "chat"}))
    await until(lambda: server.state("chat") == "unloaded")
    world.holds = False
    host.generate([request("after", "chat"), request("given up", "chat")])
    assert (await server.end_of("after")).text == "small"
    assert len(world.loaded) == 2
    world.loaded[0].finish()
    await unloading
    assert (await server.end_of("before")).finish_reason == "stop"
    assert world.living == ["small"]
    await host.close()


@on_a_loop
async def test_who_leaves_frees_a_model_that_is_being_unloaded(world: World, server: Server, tmp_path: Path) -> None:
    host = await begin(server, config_of({"drain_timeout_s": 60}, chat={"model": "small"}), tmp_path)
    world.holds = True
    host.generate([request("1", "chat")])
    unloading = asyncio.create_task(host.ask("unload", {"model": "chat"}))
    await until(lambda: server.state("chat") == "unloaded")
    host.abort(["1"])
    await unloading
    assert (await server.end_of("1")).finish_reason == "abort"
    await host.close()


@on_a_loop
async def test_a_model_is_unloaded_once_it_is_loaded(world: World, server: Server, tmp_path: Path) -> None:
    host = await begin(server, LAZY, tmp_path)
    await host.ask("unload", {"model": "chat"})  # nothing to do
    world.gate.clear()
    host.generate([request("1", "chat")])
    unloading = asyncio.create_task(host.ask("unload", {"model": "chat"}))
    await asyncio.sleep(0.02)
    world.gate.set()
    await unloading
    assert (await server.end_of("1")).finish_reason == "stop"
    assert (world.living, server.state("chat")) == ([], "unloaded")
    await host.close()


@on_a_loop
async def test_a_model_whose_files_are_gone_stays_and_nothing_else_suffers(
    world: World, server: Server, tmp_path: Path
) -> None:
    idle = {"unload_after_s": 0.05}
    host = await begin(server, config_of(chat={"model": "small", **idle}, more={"model": "large", **idle}), tmp_path)
    del world.fingerprints["small"]
    assert await until(lambda: world.living == ["small"])
    host.generate([request("1", "chat")])
    assert (await server.end_of("1")).text == "small"
    await host.close()


@on_a_loop
async def test_an_engine_that_gave_up_is_replaced(world: World, server: Server, tmp_path: Path) -> None:
    host = await begin(server, config_of(chat={"model": "small"}), tmp_path)
    world.loaded[0].failed = "chat failed again and again"
    assert await until(lambda: len(world.loaded) == 2)
    assert await until(lambda: server.state("chat") == "ready")
    host.generate([request("1", "chat")])
    assert (await server.end_of("1")).text == "small"
    assert world.living == ["small"]
    assert any(card.state == "failed" for cards, _ in server.catalogues for card in cards)
    await host.close()


@on_a_loop
async def test_the_end_waits_for_nobody_that_is_being_drained(world: World, server: Server, tmp_path: Path) -> None:
    host = await begin(server, config_of({"drain_timeout_s": 60}, chat={"model": "small"}), tmp_path)
    world.holds = True
    host.generate([request("1", "chat")])
    unloading = asyncio.create_task(host.ask("unload", {"model": "chat"}))
    await until(lambda: server.state("chat") == "unloaded")
    started = time.monotonic()
    await host.close()
    assert time.monotonic() - started < 5
    assert world.living == []
    await unloading


# --- another job file -------------------------------------------------------------------------------------------------


@on_a_loop
async def test_what_is_the_same_stays_loaded_and_the_rest_is_exchanged(
    world: World, server: Server, tmp_path: Path
) -> None:
    host = await begin(server, config_of(chat={"model": "small"}, more={"model": "large"}), tmp_path)
    world.holds = True
    host.generate([request("old", "more")])
    told = await apply(
        host,
        config_of(chat={"model": "small", "unload_after_s": 600}, more={"model": "other"}, new={"model": "large"}),
        tmp_path,
    )
    assert told == {"kept": ["chat"], "new": ["more", "new"], "gone": ["more"]}
    assert world.living == ["large", "large", "other", "small"]
    world.holds = False
    host.generate([request("1", "more"), request("2", "chat"), request("3", "new")])
    assert [(await server.end_of(number)).text for number in "123"] == ["other", "small", "large"]
    world.loaded[1].finish()
    assert (await server.end_of("old")).finish_reason == "stop"
    assert await until(lambda: world.living == ["large", "other", "small"])
    await host.close()


@on_a_loop
async def test_other_weights_under_the_same_reference_are_loaded(world: World, server: Server, tmp_path: Path) -> None:
    config = config_of(chat={"model": "small"})
    host = await begin(server, config, tmp_path)
    world.fingerprints["small"] = "sha256:trained-more"
    versions = {server.catalogues[-1][0][0].version}
    assert (await apply(host, config, tmp_path))["new"] == ["chat"]
    assert server.catalogues[-1][0][0].version not in versions
    assert (await apply(host, config, tmp_path))["kept"] == ["chat"]
    await host.close()


@pytest.mark.parametrize(
    "more",
    [
        {"model": "nowhere"},
        {"model": "large", "adapters": {"wrong": "bad"}},
        {"model": "other", "modl": "x"},
    ],
)
@on_a_loop
async def test_a_file_of_which_a_part_cannot_be_had_changes_nothing(
    world: World, server: Server, tmp_path: Path, more: dict[str, Any]
) -> None:
    world.bad_adapters.add("bad")
    first = config_of(chat={"model": "small", "adapters": {"a": "one", "b": "two"}})
    host = await begin(server, first, tmp_path)
    changed = config_of(
        chat={"model": "small", "adapters": {"b": "three", "c": "four"}}, new={"model": "other"}, more=more
    )
    with pytest.raises(GenaiError):
        await apply(host, changed, tmp_path)
    assert await until(lambda: world.living == ["small"])
    assert world.loaded[0].adapters == {"a": "one", "b": "two"}
    host.generate([request("1", "chat", "b"), request("2", "new")])
    assert (await server.end_of("1")).text == "two"
    assert (await server.end_of("2")).fault is not None
    assert (await apply(host, first, tmp_path))["kept"] == ["chat"]
    await host.close()


@on_a_loop
async def test_an_adapter_that_cannot_be_had_puts_all_adapters_back(
    world: World, server: Server, tmp_path: Path
) -> None:
    world.bad_adapters.add("bad")
    first = config_of(chat={"model": "small", "adapters": {"a": "one", "b": "two"}}, more={"model": "large"})
    host = await begin(server, first, tmp_path)
    changed = config_of(
        chat={"model": "small", "adapters": {"b": "three", "c": "four"}},
        more={"model": "large", "adapters": {"d": "bad"}},
        new={"model": "other"},
    )
    with pytest.raises(DataError, match="another base"):
        await apply(host, changed, tmp_path)
    assert world.living == ["large", "small"]
    assert world.loaded[0].adapters == {"a": "one", "b": "two"}
    assert world.loaded[1].adapters == {}
    host.generate([request("1", "new")])
    assert (await server.end_of("1")).fault is not None
    await host.close()


@on_a_loop
async def test_adapters_follow_the_file(world: World, server: Server, tmp_path: Path) -> None:
    host = await begin(server, config_of(chat={"model": "small", "adapters": {"a": "one", "b": "two"}}), tmp_path)
    engine = world.loaded[0]
    world.stamps["two"] = 1
    engine.adapters["b"] = "two as it was"
    told = await apply(host, config_of(chat={"model": "small", "adapters": {"b": "two", "c": "three"}}), tmp_path)
    assert told["kept"] == ["chat"]
    assert engine.adapters == {"b": "two", "c": "three"}
    assert sorted(card.name for card in server.catalogues[-1][0][0].adapters) == ["b", "c"]
    await host.close()


@on_a_loop
async def test_as_many_adapters_as_there_may_be_are_exchanged(world: World, server: Server, tmp_path: Path) -> None:
    engine = {"max_adapters": 2}
    first = config_of(chat={"model": "small", "engine": engine, "adapters": {"a": "one", "b": "two"}})
    host = await begin(server, first, tmp_path)
    second = config_of(chat={"model": "small", "engine": engine, "adapters": {"c": "three", "d": "four"}})
    assert (await apply(host, second, tmp_path))["kept"] == ["chat"]
    assert world.loaded[0].adapters == {"c": "three", "d": "four"}
    await host.close()


@on_a_loop
async def test_who_waits_for_a_model_is_answered_by_the_one_that_took_its_name(
    world: World, server: Server, tmp_path: Path
) -> None:
    host = await begin(server, config_of(chat={"model": "small", "load": "lazy"}), tmp_path)
    applying = asyncio.create_task(apply(host, config_of(chat={"model": "large", "load": "lazy"}), tmp_path))
    host.generate([request("1", "chat")])
    await applying
    assert (await server.end_of("1")).finish_reason == "stop"
    host.generate([request("2", "chat")])
    assert (await server.end_of("2")).text == "large"
    assert await until(lambda: world.living == ["large"])
    await host.close()


@on_a_loop
async def test_a_model_that_is_being_loaded_when_it_goes_is_not_kept(
    world: World, server: Server, tmp_path: Path
) -> None:
    both = config_of(chat={"model": "small"}, big={"model": "large", "load": "lazy"})
    host = await begin(server, both, tmp_path)
    applying = asyncio.create_task(apply(host, config_of(chat={"model": "small"}), tmp_path))
    host.generate([request("1", "big")])
    await applying
    assert await until(lambda: "1" in server.events)
    assert await until(lambda: world.living == ["small"])
    await host.close()


@on_a_loop
async def test_a_lazy_model_that_is_to_be_there_from_the_start_is_loaded(
    world: World, server: Server, tmp_path: Path
) -> None:
    host = await begin(server, LAZY, tmp_path)
    await apply(host, config_of(chat={"model": "small"}), tmp_path)
    assert (world.living, server.state("chat")) == (["small"], "ready")
    await host.close()


# --- the operator -----------------------------------------------------------------------------------------------------


@on_a_loop
async def test_adapters_are_added_to_a_model_that_is_loaded_for_it(
    world: World, server: Server, tmp_path: Path
) -> None:
    world.bad_adapters.add("bad")
    host = await begin(server, config_of(chat={"model": "small", "load": "lazy"}, more={"model": "large"}), tmp_path)
    await host.ask("add_adapter", {"model": "chat", "name": "legal", "reference": "one"})
    host.generate([request("1", "chat", "legal")])
    assert (await server.end_of("1")).text == "one"
    for values, says in (
        ({"model": "chat", "name": "wrong", "reference": "bad"}, "another base"),
        ({"model": "more", "name": "legal", "reference": "one"}, "a name of endpoint 'chat'"),
        ({"model": "chat", "name": "chat", "reference": "one"}, "a name of endpoint 'chat'"),
        ({"model": "caht", "name": "x", "reference": "one"}, "there is no model 'caht'"),
    ):
        with pytest.raises(GenaiError, match=says):
            await host.ask("add_adapter", values)
    with pytest.raises(UsageError, match="has no adapter 'legl'"):
        await host.ask("remove_adapter", {"model": "chat", "name": "legl"})
    told = await host.ask("remove_adapter", {"model": "chat", "name": "legal"})
    assert told["adapters"] == []
    await host.close()


@on_a_loop
async def test_adapters_of_a_model_that_is_not_loaded_can_be_named(
    world: World, server: Server, tmp_path: Path
) -> None:
    config = config_of(chat={"model": "small", "load": "lazy", "unload_after_s": 0.1, "adapters": {"legal": "one"}})
    host = await begin(server, config, tmp_path)
    for number in "12":
        assert await until(lambda: server.state("chat") == "unloaded")
        assert [card.name for card in server.catalogues[-1][0][0].adapters] == ["legal"]
        host.generate([request(number, "chat", "legal")])
        assert (await server.end_of(number)).text == "one"
    await host.close()


@on_a_loop
async def test_the_status_tells_of_all_models(world: World, server: Server, tmp_path: Path) -> None:
    host = await begin(server, config_of(chat={"model": "small"}, big={"model": "large", "load": "lazy"}), tmp_path)
    told = await host.ask("status", {})
    assert told["is_ready"]
    assert [(model["name"], model["state"], model["num_open"]) for model in told["models"]] == [
        ("chat", "ready", 0),
        ("big", "unloaded", 0),
    ]
    assert json.dumps(told)
    await host.close()


# --- models of indexes ------------------------------------------------------------------------------------------------


@on_a_loop
async def test_encoders_of_indexes_are_shared_and_kept_over_a_reload(
    world: World, server: Server, tmp_path: Path
) -> None:
    words = make_word_model(tmp_path / "words")
    embedding = asdict(EmbeddingConfig(model=str(words)))
    host = await begin(server, config_of(chat={"model": "small"}), tmp_path)
    name = (await host.ask("open_encoder", {"embedding": embedding}))["name"]
    assert (await host.ask("open_encoder", {"embedding": embedding}))["name"] == name
    other = await host.ask("open_encoder", {"embedding": {**embedding, "query_prompt": "query: "}})
    assert other["name"] != name
    assert all(card.is_internal for card in server.catalogues[-1][0] if card.kind == "encoder")
    host.embed(EmbedRequest(id="1", model=name, texts=["roof tiles"]))
    vectors = (await server.result_of("1")).vectors
    told = await apply(host, config_of(chat={"model": "large"}), tmp_path)
    assert told == {"kept": [], "new": ["chat"], "gone": ["chat"]}
    host.embed(EmbedRequest(id="2", model=name, texts=["roof tiles"]))
    assert (await server.result_of("2")).vectors == vectors
    with pytest.raises(GenaiError, match="nowhere"):
        await host.ask("open_encoder", {"embedding": {**embedding, "model": str(tmp_path / "nowhere")}})
    await host.close()


@on_a_loop
async def test_an_encoder_of_the_file_is_used_for_indexes(world: World, server: Server, tmp_path: Path) -> None:
    words = make_word_model(tmp_path / "words")
    config = config_of(chat={"model": "small"})
    config["endpoints"]["words"] = {"type": "encoder", "embedding": {"model": str(words)}}
    host = await begin(server, config, tmp_path)
    embedding = asdict(EmbeddingConfig(model=str(words)))
    assert (await host.ask("open_encoder", {"embedding": embedding}))["name"] == "words"
    await host.close()
