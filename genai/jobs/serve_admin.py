"""The operator's port, in the process that watches the others; it answers in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import ExitStack
from typing import Any, Self

from genai.config.secrets import resolve
from genai.config.serve import AdminConfig, ListenConfig, ServeConfig
from genai.jobs.serve_sockets import bind, url_of
from genai.serving.access_log import OFF, AccessLog
from genai.serving.apis.admin import Operator, admin_routes
from genai.serving.app import create_app
from genai.serving.caller import KeyRing
from genai.serving.exchange import Caller, Services
from genai.serving.link.client import EngineClient
from genai.serving.metrics import Metrics
from genai.serving.prompting import Prompters
from genai.serving.running import HttpServer


class AdminServer:
    """Answers the operator for as long as the block lasts.

    Args:
        admin: the job file's section.
        config: of the whole server.
        operator: does what is asked, on the loop that this is made on.
        client: of the engine.

    Raises:
        UsageError: the port is taken.
    """

    def __init__(self, admin: AdminConfig, config: ServeConfig, operator: Operator, client: EngineClient) -> None:
        self._admin = admin
        self._config = config
        self._operator = _FromThread(operator, asyncio.get_running_loop())
        self._client = client
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        listening = self._stack.enter_context(bind(self._admin.host, self._admin.port, "admin.port"))
        self.url = url_of(listening)
        services = Services(
            engine=self._client, indexes={}, limits=self._config.limits, metrics=Metrics(), prompters=Prompters()
        )
        app = create_app(
            lambda: services,
            admin_routes(self._operator),
            config=ServeConfig(endpoints={}, listen=ListenConfig(host=self._admin.host, port=self._admin.port)),
            keys=KeyRing({resolve(self._admin.token): Caller(app="operator")}),
            access_log=AccessLog(OFF),
        )
        self._server = HttpServer(app, [listening], limits=self._config.limits)
        self._thread = threading.Thread(target=self._server.run, name="admin", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self._stack.close()


class _FromThread:
    """An operator that lives on another thread's loop."""

    def __init__(self, operator: Operator, loop: asyncio.AbstractEventLoop) -> None:
        self._operator = operator
        self._loop = loop

    async def status(self) -> dict[str, Any]:
        return await self._ask(self._operator.status())

    async def reload(self) -> dict[str, Any]:
        return await self._ask(self._operator.reload())

    async def load(self, model: str) -> dict[str, Any]:
        return await self._ask(self._operator.load(model))

    async def unload(self, model: str) -> dict[str, Any]:
        return await self._ask(self._operator.unload(model))

    async def add_adapter(self, model: str, name: str, reference: str) -> dict[str, Any]:
        return await self._ask(self._operator.add_adapter(model, name, reference))

    async def remove_adapter(self, model: str, name: str) -> dict[str, Any]:
        return await self._ask(self._operator.remove_adapter(model, name))

    async def _ask(self, work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))
