"""The process of `genai serve` that has the models: answers a socket until its standard input is closed.

python -m genai.jobs.serve_engine FOLDER [--allow-code] [--quiet] [--debug]
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from genai import log
from genai.config.loading import load
from genai.config.serve import ServeConfig
from genai.errors import GenaiError
from genai.jobs.serve_children import failure
from genai.jobs.serve_folder import ServerFolder
from genai.jobs.serve_host import EngineHost
from genai.serving.link.server import EngineServer
from genai.serving.metrics import EngineMetrics

_METRICS_EVERY_S = 0.5


def main(words: Sequence[str]) -> int:
    """Serve until standard input is closed; what cannot be served is told on standard output."""
    folder = ServerFolder(Path(words[0]))
    log.configure(quiet="--quiet" in words, debug="--debug" in words)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    gc.disable()  # what comes now stays: torch, transformers, models
    try:
        config = load(folder.config, ServeConfig).config
        _set_threads(config)
        asyncio.run(_serve(folder, config, allow_code="--allow-code" in words))
    except GenaiError as error:
        print(json.dumps(failure(error)), flush=True)
        return error.exit_code
    return 0


async def _serve(folder: ServerFolder, config: ServeConfig, *, allow_code: bool) -> None:
    closed = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), _read, closed)
    loop.add_signal_handler(signal.SIGTERM, closed.set)
    server = EngineServer(folder.socket)
    host = EngineHost(config, server, allow_code=allow_code)
    await server.start(host)
    measuring = asyncio.create_task(_measure(host))
    starting = asyncio.create_task(host.start())
    ending = asyncio.create_task(closed.wait())
    try:
        await asyncio.wait({starting, ending}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            # The collector need not look at it again and again, each time for some tenths of a second.
            gc.freeze()
            gc.enable()
            await ending
    finally:
        measuring.cancel()
        server.close()
        await host.close()


async def _measure(host: EngineHost) -> None:
    """Keep the figures that /metrics shows up to date."""
    metrics = EngineMetrics()
    while True:
        for name, seconds in host.queue_times():
            metrics.queued(name, seconds)
        for name, stats in host.stats():
            metrics.update(name, **asdict(stats))
        await asyncio.sleep(_METRICS_EVERY_S)


def _read(closed: asyncio.Event) -> None:
    """Nothing is ordered over standard input; its end is the order to end."""
    if not os.read(sys.stdin.fileno(), 4096):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        closed.set()


def _set_threads(config: ServeConfig) -> None:
    from genai.training.allocator import keep_few_kernels

    keep_few_kernels()  # steps have ever new numbers of tokens
    import torch

    from genai.training.threads import usable_threads

    torch.set_num_threads(config.num_threads or usable_threads())


if __name__ == "__main__":
    exit_code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(exit_code)  # else a model that is being loaded on a thread would be waited for
