"""`genai serve`, from a job file to a server that answers. This module reads like the verb's docs:

look at the inputs -> take the port -> start the engine and the HTTP workers -> say when they are ready
-> start again whoever falls -> take over another job file on SIGHUP -> on SIGTERM let what is under way end

The process that was started computes nothing: one process has the models (`serve_engine`), others answer HTTP
(`serve_worker`), and this one watches them.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

from genai.config.loading import Loaded
from genai.config.serve import ServeConfig
from genai.errors import ConfigError, GenaiError
from genai.jobs.serve_children import EngineChild, WorkerChild
from genai.jobs.serve_folder import ServerFolder
from genai.jobs.serve_inputs import check_inputs
from genai.jobs.serve_sockets import bind, url_of
from genai.log import get_logger
from genai.serving.link.client import EngineClient

Reload = Callable[[], Loaded[ServeConfig]]
_GRACE_S = 5.0
"""What stopping may take beside the time for requests that are under way."""
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ServeResult:
    """How a server ended."""

    url: str
    """Where it answered."""
    uptime_s: float
    """From the start to the end."""
    ready_s: float | None
    """From the start until it answered; None when it never did."""
    num_restarts: int
    """Processes that fell and were started again."""

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return asdict(self)


def run(
    loaded: Loaded[ServeConfig], *, allow_code: bool = False, reload: Reload | None = None, flags: tuple[str, ...] = ()
) -> ServeResult:
    """Serve until a signal ends it.

    Args:
        loaded: the checked job file.
        allow_code: the command line lets models bring their own Python.
        reload: reads the job file once more, for SIGHUP; None where there is none.
        flags: `--quiet` or `--debug`, for the other processes.

    Raises:
        ConfigError: what the job file names is not there, or does not fit into memory.
        CredentialsError: a key cannot be found.
        UsageError: the port is taken.
        GenaiError: a model cannot be loaded, or a process falls again and again.
    """
    check_inputs(loaded, allow_code=allow_code)
    return asyncio.run(_Server(loaded, allow_code=allow_code, reload=reload, flags=flags).run())


class _Server:
    """The processes of one server."""

    def __init__(
        self, loaded: Loaded[ServeConfig], *, allow_code: bool, reload: Reload | None, flags: tuple[str, ...]
    ) -> None:
        self._loaded = loaded
        self._config = loaded.config
        self._reload_file = reload
        self._allow_code = allow_code
        self._flags = (*flags, *(("--allow-code",) if allow_code else ()))
        self._started = time.monotonic()
        self._ready_s: float | None = None
        self._stop = asyncio.Event()
        self._added: dict[tuple[str, str], str] = {}
        """Adapters that the operator has added: (model, name) -> reference."""
        self._changing = asyncio.Lock()

    async def run(self) -> ServeResult:
        config = self._config
        with (
            ServerFolder() as folder,
            bind(config.listen.host, config.listen.port, "listen.port") as public,
            ExitStack() as admin,
        ):
            self._folder = folder
            self._url = url_of(public)
            folder.write_config(self._loaded)
            self._catch_signals()
            self.client = EngineClient(folder.socket, on_progress=_tell)
            self._engine = EngineChild(folder, self._flags, on_start=self._engine_started)
            self._workers = [
                WorkerChild(folder, self._flags, number, public) for number in range(config.listen.workers)
            ]
            self._children = [self._engine, *self._workers]
            if config.admin is not None:
                from genai.jobs.serve_admin import AdminServer  # an HTTP server, which most have no need of here

                server = admin.enter_context(AdminServer(config.admin, config, self, self.client))
                _log.info("operator's port: %s", server.url)
            try:
                await self._serve()
            finally:
                await self._end()
        return ServeResult(
            url=self._url,
            uptime_s=round(time.monotonic() - self._started, 3),
            ready_s=self._ready_s,
            num_restarts=sum(child.num_restarts for child in self._children),
        )

    async def _serve(self) -> None:
        for child in self._children:
            await child.start()
        self.client.start()
        falling = [asyncio.create_task(child.watch()) for child in self._children]
        stopping = asyncio.create_task(self._stop.wait())
        becoming_ready = asyncio.create_task(self._become_ready())
        try:
            done, _ = await asyncio.wait({*falling, stopping, becoming_ready}, return_when=asyncio.FIRST_COMPLETED)
            if becoming_ready in done and not becoming_ready.exception():
                done, _ = await asyncio.wait({*falling, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*falling, stopping, becoming_ready):
                task.cancel()
            await asyncio.gather(*falling, stopping, becoming_ready, return_exceptions=True)

    async def _become_ready(self) -> None:
        await asyncio.gather(self.client.until_ready(), *(worker.until_ready() for worker in self._workers))
        self._ready_s = round(time.monotonic() - self._started, 3)
        names = ", ".join(self._config.endpoints)
        _log.info("ready after %.1f s: %s/v1 answers for %s", self._ready_s, self._url, names)

    # --- the operator ---

    async def status(self) -> dict[str, Any]:
        """What there is and how it does."""
        engine = await self.client.ask("status")
        return {
            "url": self._url,
            "uptime_s": round(time.monotonic() - self._started, 3),
            "endpoints": list(self._config.endpoints),
            "engine": {"pid": self._engine.pid, "num_restarts": self._engine.num_restarts, **engine},
            "workers": [{"pid": each.pid, "num_restarts": each.num_restarts} for each in self._workers],
        }

    async def reload(self) -> dict[str, Any]:
        """Take over the job file as it is now; what is under way ends as it began.

        Raises:
            GenaiError: it is wrong, or something in it cannot be had; nothing is changed then.
        """
        if self._reload_file is None:
            raise GenaiError("this server was started without a job file", fix="start it with CONFIG.yaml")
        async with self._changing:
            loaded = await asyncio.to_thread(self._reload_file)
            _refuse_moves(self._config, loaded)
            await asyncio.to_thread(check_inputs, loaded, allow_code=self._allow_code)
            path = self._folder.write_config(loaded, is_next=True)
            changed = await self.client.ask("apply", path=str(path))
            self._folder.take_next()
            self._config = loaded.config
            self._added.clear()
            told = await asyncio.gather(*(worker.reload() for worker in self._workers))
        problems = [problem for problem in told if problem]
        if problems:
            raise GenaiError(f"the models are those of the new job file, but a worker kept the old one: {problems[0]}")
        return changed

    async def add_adapter(self, model: str, name: str, reference: str) -> dict[str, Any]:
        """Load an adapter, or replace it; it stays until the job file is taken over again."""
        told = await self.client.ask("add_adapter", model=model, name=name, reference=reference)
        self._added[model, name] = reference
        return told

    async def remove_adapter(self, model: str, name: str) -> dict[str, Any]:
        """Let go of an adapter."""
        told = await self.client.ask("remove_adapter", model=model, name=name)
        self._added.pop((model, name), None)
        return told

    async def load(self, model: str) -> dict[str, Any]:
        """Load a model that is not."""
        return await self.client.ask("load", model=model)

    async def unload(self, model: str) -> dict[str, Any]:
        """Give a model's memory back until the next request for it."""
        return await self.client.ask("unload", model=model)

    # --- signals and the end ---

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop_asked)
        loop.add_signal_handler(signal.SIGHUP, lambda: setattr(self, "_reloading", loop.create_task(self._hang_up())))

    def _stop_asked(self) -> None:
        if self._stop.is_set():
            _log.warning("asked a second time: what is under way is given up")
            for child in self._children:
                child.kill()
            return
        seconds = self._config.limits.drain_timeout_s
        _log.info("stopping: what is under way may take another %g s (once more stops at once)", seconds)
        self._stop.set()

    async def _hang_up(self) -> None:
        for worker in self._workers:
            worker.reopen_log()
        if self._reload_file is None:
            return
        try:
            changed = await self.reload()
        except GenaiError as error:
            for problem in error.problems:
                _log.error("not taken over, the server goes on as before: %s", problem.line())
            return
        _log.info("taken over: new %s, gone %s", _listed(changed["new"]), _listed(changed["gone"]))

    async def _engine_started(self) -> None:
        """After a fall: bring back what the operator had added."""
        await self.client.until_ready()
        for (model, name), reference in self._added.items():
            try:
                await self.client.ask("add_adapter", model=model, name=name, reference=reference)
            except GenaiError as error:
                _log.error("adapter %s of %s is not back: %s", name, model, error)

    async def _end(self) -> None:
        drain_s = self._config.limits.drain_timeout_s if self._stop.is_set() else 0.0
        await asyncio.gather(*(worker.stop(drain_s + _GRACE_S) for worker in self._workers))
        self.client.close()
        await self._engine.stop(_GRACE_S)


def _refuse_moves(old: ServeConfig, loaded: Loaded[ServeConfig]) -> None:
    """What only a new start changes."""
    new = loaded.config
    fixed: Mapping[str, tuple[Any, Any]] = {
        "listen.host": (old.listen.host, new.listen.host),
        "listen.port": (old.listen.port, new.listen.port),
        "listen.workers": (old.listen.workers, new.listen.workers),
        "admin": (old.admin, new.admin),
        "num_threads": (old.num_threads, new.num_threads),
        "runs_dir": (old.runs_dir, new.runs_dir),
    }
    problems = [
        loaded.problem(key, f"{key} cannot be changed while the server runs", "start it anew")
        for key, (before, after) in fixed.items()
        if before != after
    ]
    if problems:
        raise ConfigError(problems)


def _tell(text: str, share: float | None) -> None:
    if share is None or share in (0.0, 1.0):
        _log.info("%s%s", text, " done" if share == 1.0 else "")


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "nothing"
