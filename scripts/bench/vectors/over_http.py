"""The benchmark's index behind the server, and one who asks it."""

from __future__ import annotations

import base64
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from vectors import data, ours
from vectors.data import K, recall
from vectors.timing import WARM, each_query

KEY = "bench-key"
_WIDTH, _TEXTS, _EMBEDDINGS = 1536, 256, 15
"""Numbers of a vector, texts of a request, requests."""


def make(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The data set, and its index without embedding."""
    from genai.config.dialect import dump

    data.make_pool(settings)
    made = data.make_mixture(settings)
    ours.build_index(settings)
    config = Path(settings["folder"]) / "index" / "bench" / "config.yaml"
    config.write_text(dump(asdict(ours.index_config(settings))), encoding="utf-8")
    return made


def alone(settings: Mapping[str, Any]) -> dict[str, float]:
    """Searches without a server."""
    from genai.index.engines import open_engine
    from genai.index.search import Index

    folder, config = Path(settings["folder"]) / "index" / "bench", ours.index_config(settings)
    engine = open_engine(config.engine, folder / "engine", index="bench")
    index = Index.open(folder, config, encoder_of=lambda _: ours.GivenVectors(settings), engine=engine)
    vectors, truth = queries(settings)
    answers, took = each_query(lambda vector: index.search([vector], k=K)[0], vectors)
    return {**took, "recall": recall([[int(result.key) for result in results] for results in answers], truth["all"])}


def queries(settings: Mapping[str, Any]) -> tuple[list[Any], Any]:
    folder = Path(settings["data"])
    return list(np.load(folder / "queries.npy").astype(np.float32)), np.load(folder / "truth.npz")


# --- who asks ---------------------------------------------------------------------------------------------------------


def ask(settings: Mapping[str, Any]) -> dict[str, float]:
    """Questions of one kind, one after the other, on one connection."""
    kind, (vectors, truth) = settings["kind"], queries(settings)
    path = "/v1/embeddings" if kind.startswith("embeddings") else "/v1/indexes/bench/query"
    bodies = [json.dumps(body).encode() for body in bodies_of(kind, vectors, settings)]
    connection = Connection(settings["port"])
    requests = [connection.request(path, body) for body in bodies]
    answers, took = each_query(connection.send, requests)
    found: dict[str, float] = {name: took[name] for name in ("p50_ms", "p95_ms")}
    found["num_requests"] = len(requests) + min(WARM, len(requests))
    true = {"vector": "all", "vector, base64": "all", "vector, 10 % pass": "independent 100"}.get(kind)
    if true is not None:
        rows = [[int(result["key"]) for result in json.loads(answer)["results"]] for answer in answers]
        found["recall"] = recall(rows, truth[true])
    return found


def bodies_of(kind: str, vectors: list[Any], settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    if kind.startswith("embeddings"):
        encoding = "base64" if kind.endswith("base64") else "float"
        texts = [f"text {number}" for number in range(_TEXTS)]
        return [{"model": "encoder", "input": texts, "encoding_format": encoding}] * _EMBEDDINGS
    if kind == "words":
        return [{"query": text, "mode": "bm25", "k": K} for text in ours.query_texts(len(vectors), settings)]
    if kind == "vector, base64":
        return [{"vector": base64.b64encode(vector.tobytes()).decode(), "k": K} for vector in vectors]
    more = {"filter": "independent < 100"} if "pass" in kind else {}
    return [{"vector": vector.tolist(), "k": K, **more} for vector in vectors]


class Connection:
    """As little of a client as can be."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def request(self, path: str, body: bytes) -> bytes:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n"
        return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    def send(self, request: bytes) -> bytes:
        self._socket.sendall(request)
        status, length = self._file.readline(), 0
        while (line := self._file.readline().lower()) != b"\r\n":
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        answer = self._file.read(length)
        if b" 200 " not in status:
            raise SystemExit(f"{status!r} {answer[:500]!r}")
        return answer


# --- who answers ------------------------------------------------------------------------------------------------------


def serve(settings: Mapping[str, Any]) -> None:
    """The server with everything on, until it is killed."""
    from genai.config.serve import LimitsConfig, ServeConfig
    from genai.jobs.serve_indexes import ServedIndex
    from genai.serving.access_log import AccessLog
    from genai.serving.apis import embeddings, indexes
    from genai.serving.app import create_app
    from genai.serving.caller import KeyRing
    from genai.serving.exchange import Caller, Services
    from genai.serving.metrics import Metrics
    from genai.serving.prompting import Prompters
    from genai.serving.running import serve

    encoder = ours.GivenVectors(settings)
    index = ServedIndex(
        "bench",
        index="bench",
        indexes_dir=Path(settings["folder"]) / "index",
        encoder_of=lambda _: encoder,
        reranker_of=_no_reranker,
    )
    limits = LimitsConfig()
    services = Services(
        engine=ReadyVectors(), indexes={"bench": index}, limits=limits, metrics=Metrics(), prompters=Prompters()
    )
    listener = socket.create_server(("127.0.0.1", 0))
    app = create_app(
        lambda: services,
        (*embeddings.ROUTES, *indexes.ROUTES),
        config=ServeConfig(endpoints={}),
        keys=KeyRing({KEY: Caller(app="bench")}),
        access_log=AccessLog(str(Path(settings["folder"]) / "access.log")),
    )
    port = listener.getsockname()[1]
    serve(app, [listener], limits=limits, on_ready=lambda: tell(port))


def tell(port: int) -> None:
    """Say the port, and the CPU seconds of this process whenever a line comes."""
    print(port, flush=True)

    def answer() -> None:
        for _ in sys.stdin:
            print(time.process_time(), flush=True)

    threading.Thread(target=answer, daemon=True).start()


def _no_reranker(_: object) -> Any:
    raise AssertionError("the benchmark's index has none")


class ReadyVectors:
    """An engine with one encoder, whose vectors are there already; meets `genai.serving.interfaces.Engine`."""

    is_ready = True

    def __init__(self) -> None:
        from genai.models.generation import EmbedResult, ModelCard

        drawn = data.unit(np.random.default_rng(0).standard_normal((_TEXTS, _WIDTH))).astype(np.float32)
        self._vectors = [vector.tobytes() for vector in drawn]
        self._result: Callable[..., EmbedResult] = EmbedResult
        self.cards: Mapping[str, ModelCard] = {
            "encoder": ModelCard(
                name="encoder",
                kind="encoder",
                state="ready",
                reference="",
                folder=".",
                fingerprint="",
                created=0,
                dimension=_WIDTH,
            )
        }

    def generate(self, requests: Any) -> Any:
        raise NotImplementedError

    async def embed(self, request: Any) -> Any:
        return self._result(id=request.id, vectors=self._vectors[: len(request.texts)], num_tokens=len(request.texts))

    async def rerank(self, request: Any) -> Any:
        raise NotImplementedError
