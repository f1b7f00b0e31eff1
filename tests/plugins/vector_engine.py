"""An engine with an encoder and a reranker that need no model, and an app in front of it on a real socket."""

from __future__ import annotations

import socket
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from scripted_engine import ScriptedEngine, text_card

from genai.config.serve import LimitsConfig, ServeConfig
from genai.models.generation import EmbedRequest, EmbedResult, Fault, ModelCard, RerankRequest, RerankResult

DIMENSION = 16


def vector_of(text: str) -> bytes:
    """Drawn by the text."""
    drawn = np.random.default_rng(zlib.crc32(text.encode())).normal(size=DIMENSION).astype("<f4")
    return bytes((drawn / np.linalg.norm(drawn)).tobytes())


def encoder_card(name: str = "encoder", **changes: Any) -> ModelCard:
    """Of 16 numbers."""
    return text_card(name, kind="encoder", dimension=DIMENSION, **changes)


class VectorEngine(ScriptedEngine):
    """Longer texts score higher; a text that begins with `fault` fails as the next word says."""

    def __init__(self, *cards: ModelCard) -> None:
        super().__init__(*(cards or (encoder_card(), text_card("ranker", kind="reranker"), text_card("chat"))))
        self.embeds: list[EmbedRequest] = []
        self.reranks: list[RerankRequest] = []

    async def embed(self, request: EmbedRequest) -> EmbedResult:
        self.embeds.append(request)
        if fault := _fault(request.texts):
            return EmbedResult(id=request.id, fault=fault)
        vectors = [vector_of(text)[: 4 * (request.dimensions or DIMENSION)] for text in request.texts]
        return EmbedResult(id=request.id, vectors=vectors, num_tokens=sum(map(len, request.texts)))

    async def rerank(self, request: RerankRequest) -> RerankResult:
        self.reranks.append(request)
        if fault := _fault(request.texts):
            return RerankResult(id=request.id, fault=fault)
        scores = [1 - 1 / (1 + len(text)) for text in request.texts]
        return RerankResult(id=request.id, scores=scores, num_tokens=sum(map(len, request.texts)))


def _fault(texts: Sequence[str]) -> Fault | None:
    if not texts[0].startswith("fault "):
        return None
    code: Any = texts[0].split()[1]
    return Fault(code=code, message=f"it is {code}")


@contextmanager
def running(
    engine: Any,
    routes: Sequence[Any],
    *,
    indexes: Mapping[str, Any] | None = None,
    keys: Mapping[str, Any] | None = None,
) -> Iterator[str]:
    """The server in a thread; gives its URL.

    Args:
        engine: answers.
        routes: that are there.
        indexes: by name.
        keys: key -> caller; by default anybody may ask.
    """
    from genai.serving.access_log import AccessLog
    from genai.serving.app import create_app
    from genai.serving.caller import KeyRing
    from genai.serving.exchange import Services
    from genai.serving.metrics import Metrics
    from genai.serving.prompting import Prompters
    from genai.serving.running import HttpServer

    limits = LimitsConfig(drain_timeout_s=1)
    services = Services(engine=engine, indexes=indexes or {}, limits=limits, metrics=Metrics(), prompters=Prompters())
    log = AccessLog("off")
    app = create_app(
        lambda: services, routes, config=ServeConfig(endpoints={}), keys=KeyRing(keys or {}), access_log=log
    )
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    ready = threading.Event()
    server = HttpServer(app, [listener], limits=limits, on_ready=ready.set)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()
        thread.join(30)
