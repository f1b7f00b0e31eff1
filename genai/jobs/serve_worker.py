"""A process of `genai serve` that answers HTTP; it asks the engine's process for everything that takes a model.

    python -m genai.jobs.serve_worker FOLDER SOCKET_DESCRIPTOR [--quiet] [--debug]

Orders come over standard input, one JSON object a line; when it is closed, what is under way is finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from genai import log
from genai.config.embedding import EmbeddingConfig, RerankerConfig
from genai.config.loading import load
from genai.config.serve import EncoderEndpointConfig, IndexEndpointConfig, ServeConfig
from genai.embedding.opening import open_encoder, open_reranker
from genai.errors import GenaiError
from genai.jobs.serve_children import failure
from genai.jobs.serve_folder import ServerFolder
from genai.jobs.serve_indexes import EngineEncoder, ServedIndex
from genai.log import get_logger
from genai.models.generation import EmbedRequest, EmbedResult, RerankRequest, RerankResult
from genai.serving.access_log import AccessLog
from genai.serving.apis import ALL_ROUTES
from genai.serving.app import App, create_app
from genai.serving.caller import KeyRing, callers_of
from genai.serving.exchange import Services
from genai.serving.interfaces import UnavailableError
from genai.serving.link.client import EngineClient
from genai.serving.metrics import Metrics
from genai.serving.numbering import engine_id
from genai.serving.prompting import Prompters
from genai.serving.running import HttpServer

_ENGINE_ANSWERS_WITHIN_S = 2.0
_log = get_logger(__name__)
_Result = TypeVar("_Result", EmbedResult, RerankResult)


def main(words: Sequence[str]) -> int:
    """Answer until standard input is closed; what makes that impossible is told on standard output."""
    folder, listening = ServerFolder(Path(words[0])), socket.socket(fileno=int(words[1]))
    log.configure(quiet="--quiet" in words, debug="--debug" in words)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        config = load(folder.config, ServeConfig).config
        Worker(folder, config, listening).run()
    except GenaiError as error:
        _say(failure(error))
        return error.exit_code
    return 0


class Worker:
    """One process that answers HTTP.

    Args:
        folder: of the server.
        config: the job file in force.
        listening: the socket that all workers share.
    """

    def __init__(self, folder: ServerFolder, config: ServeConfig, listening: socket.socket) -> None:
        self._folder = folder
        self._config = config
        self._client = EngineClient(folder.socket)
        self._log = AccessLog(config.access_log.path)
        self._metrics = Metrics()
        self._prompters = Prompters()
        self._keys = KeyRing(callers_of(config.apps))
        self._indexes: dict[str, ServedIndex] = {}
        self._app: App | None = None
        self._input = b""
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = HttpServer(
            self._answer,
            [listening],
            limits=config.limits,
            on_start=self._start,
            on_ready=lambda: self._spawn(self._tell_ready()),
            on_stop=self._end,
        )

    def run(self) -> None:
        """Answer until told to stop."""
        self._server.run()

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        assert self._app is not None
        await self._app(scope, receive, send)

    async def _start(self) -> None:
        self._client.start()
        await self._take_over(self._config)
        if self._folder.socket.exists():
            # Started again beside an engine that works: who asks first shall find the models. One that hangs is not
            # waited for.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._client.until_ready(), _ENGINE_ANSWERS_WITHIN_S)
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._read)

    async def _tell_ready(self) -> None:
        """Connections are taken, and whoever asks finds the models."""
        await self._client.until_ready()
        # What is there now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        _say({"ready": True})

    async def _end(self) -> None:
        for index in self._indexes.values():
            await asyncio.to_thread(index.close)
        self._client.close()
        self._metrics.flush()
        self._log.close()

    async def _take_over(self, config: ServeConfig) -> None:
        """Answer by a job file from the next request on; when it cannot be had all stays as it is."""
        models = _Models(config, self._client)
        indexes = await asyncio.to_thread(_open_indexes, config, models)
        callers = callers_of(config.apps)
        old = self._indexes
        self._config, self._indexes = config, indexes
        self._keys.replace(callers)
        services = Services(
            engine=self._client,
            indexes=indexes,
            limits=config.limits,
            metrics=self._metrics,
            prompters=self._prompters,
        )
        self._app = create_app(lambda: services, ALL_ROUTES, config=config, keys=self._keys, access_log=self._log)
        self._prompters.keep(config.endpoints)
        for index in old.values():
            await asyncio.to_thread(index.close)

    # --- orders ---

    def _read(self) -> None:
        data = os.read(sys.stdin.fileno(), 65_536)
        if not data:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            self._server.stop()
            return
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            self._spawn(self._obey(json.loads(line)))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _obey(self, order: Mapping[str, Any]) -> None:
        if order["do"] == "reopen_log":
            self._log.reopen()
            return
        assert order["do"] == "reload", order
        problem = None
        try:
            await self._take_over(await asyncio.to_thread(lambda: load(self._folder.config, ServeConfig).config))
        except GenaiError as error:
            problem = str(error)
        except Exception as error:
            _log.exception("the new job file could not be taken over")
            problem = f"{type(error).__name__}: {error}"
        _say({"reloaded": problem})


class _Models:
    """What indexes need of the engine, for threads other than the loop's.

    Args:
        config: the job file in force.
        client: asks the engine.
    """

    def __init__(self, config: ServeConfig, client: EngineClient) -> None:
        self._config = config
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._timeout_s = config.limits.request_timeout_s

    def encoder_of(self, embedding: EmbeddingConfig, *, endpoint: str | None) -> Any:
        """An encoder whose texts are embedded by the engine, or by the other server that it names."""
        if embedding.backend == "endpoint" or embedding.base_url is not None:
            return open_encoder(embedding, runs_dir=self._config.runs_dir)
        if endpoint is not None:
            chosen = self._config.endpoints[endpoint]
            assert isinstance(chosen, EncoderEndpointConfig)
            embedding = chosen.embedding
        name = _Name(self, "open_encoder", {"embedding": asdict(embedding)}, endpoint)

        def embed(texts: list[str], role: Literal["document", "query"]) -> Sequence[bytes]:
            vectors: Sequence[bytes] = name.ask(lambda model: self._embed(model, texts, role), "encoder").vectors
            return vectors

        return EngineEncoder(open_encoder(embedding, runs_dir=self._config.runs_dir), embed)

    def _embed(self, model: str, texts: list[str], role: Literal["document", "query"]) -> EmbedResult:
        request = EmbedRequest(id=engine_id("index"), model=model, texts=texts, role=role, timeout_s=self._timeout_s)
        result: EmbedResult = self.wait(self._client.embed(request))
        return result

    def reranker_of(self, reranker: RerankerConfig) -> Any:
        """A reranker of the engine, or of the other server that it names."""
        if reranker.name == "endpoint":
            return open_reranker(reranker, runs_dir=self._config.runs_dir)
        return _EngineReranker(reranker, self)

    def open_internal(self, verb: str, values: Mapping[str, Any]) -> str:
        """The endpoint that has a model; one is made where there is none.

        Raises:
            UnavailableError: it cannot be had.
        """
        try:
            return str(self.wait(self._client.ask(verb, **values))["name"])
        except UnavailableError:
            raise
        except GenaiError as error:
            _log.warning("a model that an index needs cannot be opened: %s", error)
            raise UnavailableError("a model that the index needs cannot be had at the moment") from error

    def rerank(self, model: str, query: str, texts: Sequence[str]) -> RerankResult:
        """Scores from 0 to 1."""
        request = RerankRequest(
            id=engine_id("index"), model=model, query=query, texts=list(texts), timeout_s=self._timeout_s
        )
        result: RerankResult = self.wait(self._client.rerank(request))
        return result

    def wait(self, work: Awaitable[Any]) -> Any:
        """Wait for something that is done on the loop, at most as long as a request may take.

        Raises:
            UnavailableError: it took longer.
        """
        waiting = asyncio.wait_for(_as_coroutine(work), self._timeout_s)
        try:
            return asyncio.run_coroutine_threadsafe(waiting, self._loop).result()
        except TimeoutError as error:
            raise UnavailableError(f"the engine does not answer within {self._timeout_s:g} s") from error


class _Name:
    """What the engine calls a model of an index; an engine that was started again has forgotten what it made.

    Args:
        models: asks the engine.
        verb: that opens the model.
        values: which one.
        endpoint: that has it for certain.
    """

    def __init__(self, models: _Models, verb: str, values: Mapping[str, Any], endpoint: str | None) -> None:
        self._models = models
        self._verb = verb
        self._values = values
        self._is_fixed = endpoint is not None
        self._name = endpoint

    def ask(self, ask: Callable[[str], _Result], what: str) -> _Result:
        """Ask the model.

        Raises:
            UnavailableError: it does not answer.
        """
        result = ask(self._known())
        if result.fault is not None and result.fault.code == "not_found" and not self._is_fixed:
            self._name = None
            result = ask(self._known())
        if result.fault is not None:
            raise UnavailableError(f"the {what} does not answer: {result.fault.message}")
        return result

    def _known(self) -> str:
        if self._name is None:
            self._name = self._models.open_internal(self._verb, self._values)
        return self._name


class _EngineReranker:
    """Meets `genai.index.interfaces.Reranker`; the engine is asked with the first texts."""

    def __init__(self, config: RerankerConfig, models: _Models) -> None:
        self._models = models
        self._name = _Name(models, "open_reranker", {"model": config.model}, None)

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """See `Reranker`."""
        return self._name.ask(lambda model: self._models.rerank(model, query, texts), "reranker").scores


async def _as_coroutine(work: Awaitable[Any]) -> Any:
    return await work


def _open_indexes(config: ServeConfig, models: _Models) -> dict[str, ServedIndex]:
    """All indexes of a job file, or none."""
    opened: dict[str, ServedIndex] = {}
    try:
        for name, endpoint in config.endpoints.items():
            if isinstance(endpoint, IndexEndpointConfig):
                opened[name] = _open_index(name, endpoint, config, models)
    except BaseException:
        for index in opened.values():
            index.close()
        raise
    return opened


def _open_index(name: str, endpoint: IndexEndpointConfig, config: ServeConfig, models: _Models) -> ServedIndex:
    return ServedIndex(
        name,
        index=endpoint.index,
        indexes_dir=config.indexes_dir,
        encoder_of=partial(models.encoder_of, endpoint=endpoint.encoder),
        reranker_of=models.reranker_of,
        writable=endpoint.writable,
    )


def _say(message: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
