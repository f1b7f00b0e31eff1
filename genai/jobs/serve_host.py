"""Everything that computes for a server: gives requests to the models, loads and unloads them, takes over another job
file while requests go on.

All state is changed on the loop's thread; loading and draining happen on threads of their own.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from genai.config.embedding import EmbeddingConfig
from genai.config.loading import load
from genai.config.serve import EncoderEndpointConfig, ModelEndpointConfig, RerankerEndpointConfig, ServeConfig
from genai.errors import DataError, GenaiError, UsageError
from genai.inference.stats import BatchStats, EngineStats
from genai.jobs.serve_memory import check_fits
from genai.jobs.serve_models import Served, ServedEncoder, ServedReranker, ServedText, Surroundings, make_served
from genai.log import get_logger
from genai.models.freed_memory import return_freed_memory
from genai.models.generation import (
    EmbedRequest,
    EmbedResult,
    Event,
    Fault,
    GenerationRequest,
    ModelCard,
    ModelState,
    RerankRequest,
    RerankResult,
)
from genai.registry import suggest
from genai.serving.link.server import EngineServer

AnyRequest = GenerationRequest | EmbedRequest | RerankRequest
_KINDS: dict[type, str] = {GenerationRequest: "text", EmbedRequest: "encoder", RerankRequest: "reranker"}
_LOOK_EVERY_S = 0.5
_FAILED_S = 2.0
"""A model that could not be loaded is not tried again for so long."""
_HEAL_AGAIN_S = 30.0
"""Pause before a model that failed and could not be replaced is looked at again."""
_INTERNAL_IDLE_S = 600.0
"""An encoder that only an index needs is let go of after so long."""
_log = get_logger(__name__)


class _Place:
    """A model under its name: its state, and the requests that wait for it to be loaded."""

    def __init__(self, served: Served, version: int) -> None:
        self.served = served
        self.version = version
        self.state: ModelState = "unloaded"
        self.error: str | None = None
        self.waiting: list[AnyRequest] = []
        self.loading: asyncio.Task[None] | None = None
        self.is_gone = False
        """Another job file is in force, without it."""
        self.quiet_until = 0.0
        """time.monotonic() before which nothing is done about a failure."""

    def card(self) -> ModelCard:
        failed = self.served.failed if isinstance(self.served, ServedText) else None
        state: ModelState = "failed" if failed else self.state
        return replace(self.served.card, state=state, version=self.version, error=failed or self.error)


class EngineHost:
    """See `genai.serving.link.server.Host`.

    Args:
        config: what is served.
        server: publishes what models say.
        allow_code: whether models may bring their own Python.
    """

    def __init__(self, config: ServeConfig, server: EngineServer, *, allow_code: bool = False) -> None:
        self._config = config
        self._server = server
        self._allow_code = allow_code
        self._places: dict[str, _Place] = {}
        self._versions = 0
        self._num_internal = 0
        self._is_ready = False
        # One thread loads: two models that are loaded at once would both count on the same free memory.
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loading")
        self._drainers = ThreadPoolExecutor(4, thread_name_prefix="draining")
        self._tasks: set[asyncio.Task[Any]] = set()
        self._leaving: list[Served] = []
        """Models that finish what they have."""
        self._changing = asyncio.Lock()

    def _around(self, config: ServeConfig) -> Surroundings:
        return Surroundings(
            runs_dir=config.runs_dir,
            num_threads=config.num_threads,
            grammar_timeout_s=config.limits.grammar_timeout_s,
            allow_code=self._allow_code,
            publish_events=self._server.publish_events,
            publish_embedded=self._server.publish_embedded,
            publish_reranked=self._server.publish_reranked,
            progress=self._server.publish_progress,
        )

    # --- the beginning and the end ---

    async def start(self) -> None:
        """Find all models and load those that are to be there from the start.

        Raises:
            GenaiError: one cannot be found or loaded, or together they do not fit into memory.
        """
        async with self._changing:
            self._places = await self._in_loader(self._make, self._config, {})
        self._is_ready = True
        self._publish()
        self._spawn(self._look_after())

    async def close(self, *, drain_timeout_s: float = 0.0) -> None:
        """Finish what is under way, at most so long, and let go of everything."""
        self._is_ready = False
        places, self._places = self._places, {}
        for place in places.values():
            place.is_gone = True
        there = [*(place.served for place in places.values()), *self._leaving]
        await asyncio.gather(*(self._drain(served, drain_timeout_s) for served in there))
        for task in self._tasks:
            task.cancel()
        self._loader.shutdown(wait=False, cancel_futures=True)
        self._drainers.shutdown(wait=False, cancel_futures=True)

    def _make(self, config: ServeConfig, known: Mapping[str, _Place]) -> dict[str, _Place]:
        """The models of a config; those of `known` that it has unchanged are kept. All or nothing."""
        around = self._around(config)
        places: dict[str, _Place] = {}
        made: list[_Place] = []
        try:
            for name, endpoint in config.endpoints.items():
                served = make_served(name, endpoint, around)
                if served is None:
                    continue
                served.find()
                old = known.get(name)
                if old is not None and _is_same(old.served, served):
                    places[name] = old
                    continue
                places[name] = place = self._placed(served)
                made.append(place)
            check_fits([place.served for place in made], config, beside=self._loaded() if self._is_ready else None)
            for place in made:
                if place.served.config.load == "start":
                    place.served.load()
                    place.state = "ready"
        except BaseException:
            for place in made:
                place.served.unload(drain_timeout_s=0)
            raise
        return places

    def _placed(self, served: Served) -> _Place:
        self._versions += 1
        return _Place(served, self._versions)

    # --- requests ---

    def generate(self, requests: Sequence[GenerationRequest]) -> None:
        for request in requests:
            self._give(request)

    def embed(self, request: EmbedRequest) -> None:
        self._give(request)

    def rerank(self, request: RerankRequest) -> None:
        self._give(request)

    def abort(self, ids: Collection[str]) -> None:
        wanted = set(ids)
        for place in self._places.values():
            for request in [each for each in place.waiting if each.id in wanted]:
                place.waiting.remove(request)
                if isinstance(request, GenerationRequest):
                    self._server.publish_events([Event(id=request.id, finish_reason="abort")])
            place.served.abort(ids)
        for served in self._leaving:
            served.abort(ids)

    def _give(self, request: AnyRequest) -> None:
        place = self._places.get(request.model)
        if place is None or place.served.card.kind != _KINDS[type(request)]:
            near = suggest(request.model, self._places)
            hint = f" (did you mean '{near}'?)" if near else ""
            self._refuse(request, Fault(code="not_found", message=f"there is no model '{request.model}'{hint}"))
            return
        place.served.last_used = time.monotonic()
        if place.served.is_loaded:
            place.served.submit(request)
        elif place.state == "failed":
            message = f"model '{request.model}' could not be loaded: {place.error}"
            self._refuse(request, Fault(code="not_loaded", message=message))
        else:
            place.waiting.append(request)
            self._begin_load(place)

    def _refuse(self, request: AnyRequest, fault: Fault) -> None:
        if isinstance(request, GenerationRequest):
            self._server.publish_events([Event(id=request.id, finish_reason="error", fault=fault)])
        elif isinstance(request, EmbedRequest):
            self._server.publish_embedded(EmbedResult(id=request.id, fault=fault))
        else:
            self._server.publish_reranked(RerankResult(id=request.id, fault=fault))

    # --- loading and unloading ---

    def _begin_load(self, place: _Place) -> None:
        if place.loading is None:
            place.state = "loading"
            self._publish()
            place.loading = self._spawn(self._load(place))

    async def _load(self, place: _Place) -> None:
        served = place.served
        try:
            await self._in_loader(self._load_now, place)
            place.state, place.error = "ready", None
        except Exception as error:
            if not isinstance(error, GenaiError):
                _log.exception("loading %s failed", served.name)
            place.state, place.error = "failed", str(error) or type(error).__name__
            place.quiet_until = time.monotonic() + _FAILED_S
        place.loading = None
        if place.is_gone:
            await self._drain(served, 0)
            return
        waiting, place.waiting = place.waiting, []
        self._publish()
        for request in waiting:
            self._give(request)

    def _load_now(self, place: _Place) -> None:
        if not place.is_gone and not place.served.is_loaded:
            check_fits([place.served], self._config, beside=self._loaded())
            place.served.load()

    def _loaded(self) -> list[Served]:
        """Whose weights are in memory."""
        return [*(place.served for place in list(self._places.values()) if place.served.is_loaded), *self._leaving]

    async def _look_after(self) -> None:
        """Unload what nobody asks for, try again what failed."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            for place in list(self._places.values()):
                try:
                    await self._look_at(place)
                except GenaiError as error:
                    place.quiet_until = time.monotonic() + _HEAL_AGAIN_S
                    _log.error("%s cannot be found any more: %s", place.served.name, error)

    async def _look_at(self, place: _Place) -> None:
        served, now = place.served, time.monotonic()
        if now < place.quiet_until:
            return
        limit_s = served.config.unload_after_s
        if isinstance(served, ServedText) and served.failed:
            _log.error("%s is loaded anew: %s", served.name, served.failed)
            self._publish()
            await self._unload(place, drain_timeout_s=0)
            self._begin_load(place)
        elif place.state == "failed":
            # What was missing may be there by now: the next request tries again.
            place.state = "unloaded"
            self._publish()
        elif limit_s is not None and now - served.last_used > limit_s and served.is_loaded and not served.num_open:
            _log.info("%s is unloaded: no request for %g s", served.name, limit_s)
            await self._unload(place, drain_timeout_s=0, if_idle=True)

    async def _unload(self, place: _Place, *, drain_timeout_s: float, if_idle: bool = False) -> None:
        """Give memory back; requests that come meanwhile load the model again."""
        if place.loading is not None:
            await place.loading
        old, last_used = place.served, place.served.last_used
        if not old.is_loaded:
            return
        fresh = await self._in_loader(_another, old)
        if place.served is not old or place.is_gone or (if_idle and old.last_used != last_used):
            return
        place.served, place.state, place.error = fresh, "unloaded", None
        self._publish()
        await self._drain(old, drain_timeout_s)

    async def _drain(self, served: Served, timeout_s: float) -> None:
        self._leaving.append(served)
        try:
            await asyncio.get_running_loop().run_in_executor(self._drainers, _let_go, served, timeout_s)
        finally:
            self._leaving.remove(served)

    # --- what the operator asks ---

    async def ask(self, verb: str, values: dict[str, Any]) -> dict[str, Any]:
        """See `genai.serving.link.server.Host.ask`."""
        verbs: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
            "status": self._status,
            "apply": self._apply,
            "load": self._load_asked,
            "unload": self._unload_asked,
            "add_adapter": self._add_adapter,
            "remove_adapter": self._remove_adapter,
            "open_encoder": self._open_encoder,
            "open_reranker": self._open_reranker,
        }
        return await verbs[verb](**values)

    async def _status(self) -> dict[str, Any]:
        return {
            "is_ready": self._is_ready,
            "models": [
                {**asdict(place.card()), "num_open": place.served.num_open, "stats": _plain(place.served.stats())}
                for place in self._places.values()
            ],
        }

    async def _apply(self, path: str) -> dict[str, Any]:
        """Take over another job file; raises and changes nothing when any of it cannot be had."""
        async with self._changing:
            config = await self._in_loader(lambda: load(Path(path), ServeConfig).config)
            internal = {name: place for name, place in self._places.items() if place.served.card.is_internal}
            places = await self._in_loader(self._make, config, self._places)
            kept = [name for name, place in places.items() if self._places.get(name) is place]
            try:
                await self._in_loader(_follow_adapters, [places[name].served for name in kept], config)
            except BaseException:
                made = [place.served for name, place in places.items() if name not in kept]
                await asyncio.gather(*(self._drain(served, 0) for served in made))
                raise
            around = self._around(config)
            for name in kept:
                places[name].served.config, places[name].served.around = config.endpoints[name], around
            gone = [place for name, place in self._places.items() if {**places, **internal}.get(name) is not place]
            self._places, self._config = {**places, **internal}, config
            self._publish()
            for place in gone:
                self._let_go(place)
        return {"kept": kept, "new": [name for name in places if name not in kept], "gone": _names(gone)}

    def _let_go(self, place: _Place) -> None:
        """Another model has its name by now, or none."""
        place.is_gone = True
        waiting, place.waiting = place.waiting, []
        for request in waiting:
            self._give(request)
        self._spawn(self._drain(place.served, self._config.limits.drain_timeout_s))

    async def _load_asked(self, model: str) -> dict[str, Any]:
        place = self._place(model)
        if not place.served.is_loaded:
            self._begin_load(place)
        if place.loading is not None:
            await place.loading
        if place.error is not None:
            raise DataError(place.error)
        return asdict(place.card())

    async def _unload_asked(self, model: str) -> dict[str, Any]:
        async with self._changing:
            place = self._place(model)
            await self._unload(place, drain_timeout_s=self._config.limits.drain_timeout_s)
        return asdict(place.card())

    async def _add_adapter(self, model: str, name: str, reference: str) -> dict[str, Any]:
        async with self._changing:
            self._text(model)
            taken = self._owner(name)
            if taken is not None and (taken != model or name == model):
                raise UsageError(f"'{name}' is a name of endpoint '{taken}'", fix="take another name")
            await self._load_asked(model)  # whether an adapter fits is seen at the model alone
            served = self._text(model)
            await self._in_loader(served.add_adapter, name, reference)
            self._publish()
        return {"model": model, "adapters": [asdict(card) for card in served.card.adapters]}

    async def _remove_adapter(self, model: str, name: str) -> dict[str, Any]:
        async with self._changing:
            served = self._text(model)
            if name not in served.adapters:
                near = suggest(name, served.adapters)
                raise UsageError(f"'{model}' has no adapter '{name}'", fix=f"did you mean '{near}'?" if near else None)
            served.remove_adapter(name)
            self._publish()
        return {"model": model, "adapters": [asdict(card) for card in served.card.adapters]}

    async def _open_encoder(self, embedding: dict[str, Any]) -> dict[str, Any]:
        """The name of an endpoint with this encoder, for an index; one is made where there is none."""
        config = TypeAdapter(EmbeddingConfig).validate_python(embedding)
        endpoint = EncoderEndpointConfig(embedding=config, load="lazy", unload_after_s=_INTERNAL_IDLE_S)
        return await self._open_internal(
            config.model,
            lambda served: isinstance(served, ServedEncoder) and served.config.embedding == config,
            lambda name: ServedEncoder(name, endpoint, self._around(self._config), is_internal=True),
        )

    async def _open_reranker(self, model: str) -> dict[str, Any]:
        """The same for a reranker."""
        endpoint = RerankerEndpointConfig(model=model, load="lazy", unload_after_s=_INTERNAL_IDLE_S)
        return await self._open_internal(
            model,
            lambda served: isinstance(served, ServedReranker) and served.config.model == model,
            lambda name: ServedReranker(name, endpoint, self._around(self._config), is_internal=True),
        )

    async def _open_internal(
        self, model: str, is_it: Callable[[Served], bool], make: Callable[[str], Served]
    ) -> dict[str, Any]:
        async with self._changing:
            for name, place in self._places.items():
                if is_it(place.served):
                    return {"name": name}
            self._num_internal += 1
            name = f"@{self._num_internal}-{model}"
            served = make(name)
            await self._in_loader(served.find)
            self._places[name] = self._placed(served)
            self._publish()
        return {"name": name}

    def _place(self, model: str) -> _Place:
        if model not in self._places:
            near = suggest(model, self._places)
            hint = f"did you mean '{near}'?" if near else f"there are {', '.join(self._places)}"
            raise UsageError(f"there is no model '{model}'", fix=hint)
        return self._places[model]

    def _text(self, model: str) -> ServedText:
        served = self._place(model).served
        if not isinstance(served, ServedText):
            raise UsageError(f"'{model}' is no language model, and has no adapters")
        return served

    def _owner(self, name: str) -> str | None:
        for model, place in self._places.items():
            if model == name or (isinstance(place.served, ServedText) and name in place.served.adapters):
                return model
        return None

    # --- small things ---

    def queue_times(self) -> Iterator[tuple[str, float]]:
        """Name of a language model, and the seconds that a request to it waited; each is told once."""
        for name, place in list(self._places.items()):
            if isinstance(place.served, ServedText):
                yield from ((name, seconds) for seconds in place.served.take_queue_times())

    def stats(self) -> Iterator[tuple[str, EngineStats | BatchStats]]:
        """Name of each model that is loaded, and its figures."""
        for name, place in list(self._places.items()):
            stats = place.served.stats()
            if stats is not None:
                yield name, stats

    def _publish(self) -> None:
        self._server.publish_catalogue([place.card() for place in self._places.values()], is_ready=self._is_ready)

    async def _in_loader(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._loader, function, *arguments)

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _is_same(old: Served, new: Served) -> bool:
    """Whether a model need not be loaded anew: same files and settings; adapters are looked at by themselves."""
    return (
        old.card.fingerprint == new.card.fingerprint
        and old.card.folder == new.card.folder
        and old.card.chat_template == new.card.chat_template
        and _of_weights(old.config) == _of_weights(new.config)
        and (old.is_loaded or old.config.load == new.config.load)
        and old.around.num_threads == new.around.num_threads
    )


def _of_weights(config: Any) -> Any:
    """Without what can be changed while a model is loaded."""
    config = replace(config, load="start", unload_after_s=None)
    return replace(config, adapters={}) if isinstance(config, ModelEndpointConfig) else config


def _follow_adapters(kept: Sequence[Served], config: ServeConfig) -> None:
    """Bring the adapters of models that are kept to what the job file says: of all, or of none."""
    before: dict[ServedText, dict[str, str]] = {}
    try:
        for served in kept:
            endpoint = config.endpoints[served.name]
            if isinstance(served, ServedText) and isinstance(endpoint, ModelEndpointConfig):
                before[served] = dict(served.adapters)
                served.set_adapters(endpoint.adapters)
    except BaseException:
        for served, adapters in before.items():
            _put_back(served, adapters)
        raise


def _put_back(served: ServedText, adapters: Mapping[str, str]) -> None:
    try:
        served.set_adapters(adapters)
    except GenaiError as error:
        _log.error("%s: an adapter is not back: %s", served.name, error)


def _let_go(served: Served, timeout_s: float) -> None:
    was_loaded = served.is_loaded
    served.unload(drain_timeout_s=timeout_s)
    if was_loaded:
        gc.unfreeze()  # the model itself may be among what was there from the start
        gc.collect()
        gc.freeze()
        return_freed_memory()


def _another(old: Served) -> Served:
    """The same model, not loaded."""
    served = old.another()
    served.find()
    return served


def _plain(stats: EngineStats | BatchStats | None) -> dict[str, Any] | None:
    return None if stats is None else asdict(stats)


def _names(places: Iterable[_Place]) -> list[str]:
    return [place.served.name for place in places]
