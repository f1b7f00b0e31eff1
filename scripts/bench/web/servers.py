"""The servers that are compared; each is this module run with its name: `-m web.servers NAME FOLDER LOG`."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import Any

KEY = "a-key-of-forty-characters-for-the-bench-1"


def main(name: str, folder: str, scratch: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    serving = {"ours": serve_ours, "link": serve_ours, "engine": serve_engine}
    serving.get(name, serve_uvicorn)(listener, name, folder, Path(scratch))


def say_ready(listener: socket.socket) -> None:
    print(listener.getsockname()[1], flush=True)


def serve_ours(listener: socket.socket, name: str, folder: str, scratch: Path) -> None:
    from genai.config.serve import ServeConfig
    from genai.serving.access_log import AccessLog
    from genai.serving.apis import ALL_ROUTES
    from genai.serving.app import create_app
    from genai.serving.caller import KeyRing
    from genai.serving.exchange import Caller, Services
    from genai.serving.link.client import EngineClient
    from genai.serving.metrics import Metrics
    from genai.serving.prompting import Prompters
    from genai.serving.running import serve
    from web.instant import InstantEngine

    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(scratch)
    config = ServeConfig(endpoints={})
    client = EngineClient(scratch / "engine.sock") if name == "link" else None
    engine: Any = client or InstantEngine(folder)
    services = Services(engine=engine, indexes={}, limits=config.limits, metrics=Metrics(), prompters=Prompters())
    app = create_app(
        lambda: services,
        ALL_ROUTES,
        config=config,
        keys=KeyRing({KEY: Caller("bench")}),
        access_log=AccessLog(str(scratch / "access.log")),
    )

    async def begin() -> None:
        if client is not None:
            client.start()

    serve(app, [listener], limits=config.limits, on_start=begin, on_ready=lambda: say_ready(listener))


def serve_engine(listener: socket.socket, name: str, folder: str, scratch: Path) -> None:
    import uvloop

    from genai.serving.link.server import EngineServer
    from web.instant import InstantHost, card

    async def run() -> None:
        server = EngineServer(scratch / "engine.sock")
        await server.start(InstantHost(server))
        server.publish_catalogue([card(folder)], is_ready=True)
        say_ready(listener)
        await asyncio.Event().wait()

    uvloop.run(run())


def serve_uvicorn(listener: socket.socket, name: str, folder: str, scratch: Path) -> None:
    import uvicorn

    from web.fastapi_server import create

    config = uvicorn.Config(
        create(folder, scratch / "access.log") if name == "fastapi" else bare,
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_level="warning",
    )
    say_ready(listener)
    uvicorn.Server(config).run([listener])


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """As little as an ASGI application can do: reads nothing of the request, and knows its answer."""
    message = await receive()
    body = b'{"id":"cmpl-1","object":"text_completion","choices":[{"index":0,"text":"the same"}]}'
    count = 64 if b'"stream"' in message["body"] else 0
    headers = [(b"content-type", b"application/json")]
    if not count:
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(count):
        await send({"type": "http.response.body", "body": b"data: %b\n\n" % body, "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b"" if count else body})


if __name__ == "__main__":
    main(*sys.argv[1:])
