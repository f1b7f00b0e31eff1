"""What Prometheus is told (text format 0.0.4), with vLLM's names, so that dashboards made for it can be used.

Numbers are counted in plain Python objects, which costs a fraction of a microsecond, and told to prometheus_client when
somebody asks. With several processes (PROMETHEUS_MULTIPROC_DIR names a folder) every process copies its numbers into a
file of its own there now and then, and whichever is asked sums up all of them.

Labels never hold what askers invent: models are those that exist, paths those of the API.
"""

from __future__ import annotations

import asyncio
import os
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from prometheus_client.values import MultiProcessValue

from genai.models.generation import FinishReason
from genai.serving.exchange import Notes

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

_FLUSH_PAUSE_S = 0.25
_SHOWN_AGAIN_S = 1.0
_REASONS = get_args(FinishReason)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Buckets as in vllm/v1/metrics/loggers.py; those of tokens are its 1-2-5 steps for a context of 131,072.
_TO_FIRST_TOKEN = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
_BETWEEN_TOKENS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
_OF_REQUESTS = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0),
    *(40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
_TOKENS = tuple(float(step * 10**power) for power in range(6) for step in (1, 2, 5) if step * 10**power <= 131_072)

Kind = Literal["counter", "gauge", "histogram"]


# --- counting ---------------------------------------------------------------------------------------------------------


class Number:
    """A counter or gauge."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class Histogram:
    """How many of the values lie in each bucket.

    Args:
        bounds: upper bounds of the buckets, ascending; above the last one there is one more.
    """

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value


@dataclass(frozen=True, kw_only=True)
class _Family:
    """All numbers of one name."""

    name: str
    """Without `_total`."""
    kind: Kind
    help: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...] = ()
    children: dict[tuple[str, ...], Any] = field(default_factory=dict)
    """By the values of the labels."""

    def child(self, *values: str) -> Any:
        """The number with these values of the labels."""
        found = self.children.get(values)
        if found is None:
            found = self.children[values] = Histogram(self.bounds) if self.kind == "histogram" else Number()
        return found

    def metric(self) -> Metric:
        """As prometheus_client has it."""
        metric = Metric(self.name, self.help, self.kind)
        for values, child in self.children.items():
            labels = dict(zip(self.labels, values, strict=True))
            if isinstance(child, Histogram):
                sums = accumulate(child.counts)
                for bound, count in zip(self._ends(), sums, strict=True):
                    metric.add_sample(f"{self.name}_bucket", {**labels, "le": bound}, count)
                metric.add_sample(f"{self.name}_count", labels, sum(child.counts))
                metric.add_sample(f"{self.name}_sum", labels, child.sum)
            else:
                metric.add_sample(self._sample_name, labels, child.value)
        return metric

    def stored(self) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...], float]]:
        """Name, labels, their values and number of all that a process keeps in its file; there buckets are not summed
        up, and nothing is told of their count.
        """
        for values, child in self.children.items():
            if isinstance(child, Histogram):
                for bound, count in zip(self._ends(), child.counts, strict=True):
                    yield f"{self.name}_bucket", (*self.labels, "le"), (*values, bound), count
                yield f"{self.name}_sum", self.labels, values, child.sum
            else:
                yield self._sample_name, self.labels, values, child.value

    @property
    def _sample_name(self) -> str:
        return f"{self.name}_total" if self.kind == "counter" else self.name

    def _ends(self) -> list[str]:
        return [floatToGoString(bound) for bound in (*self.bounds, float("inf"))]  # type: ignore[no-untyped-call]


# --- telling ----------------------------------------------------------------------------------------------------------


class _Told:
    """All families of a process, and how they get to the one who asks."""

    def __init__(self, families: Sequence[_Family]) -> None:
        self._families = families
        self._folder = os.environ.get(FOLDER_VARIABLE)
        self._value_class = MultiProcessValue() if self._folder else None  # type: ignore[no-untyped-call]
        self._values: dict[tuple[str, tuple[str, ...]], tuple[Any, float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._shown = b""
        self._shown_at = -_SHOWN_AGAIN_S

    def changed(self) -> None:
        """Numbers have changed: other processes see it soon."""
        if self._timer is None and self._value_class is not None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_PAUSE_S, self.flush)

    def flush(self) -> None:
        """Copy what has changed into this process's file."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._value_class is None:
            return
        for family in self._families:
            for name, labels, values, number in family.stored():
                self._store(family, name, labels, values, number)

    def _store(
        self, family: _Family, name: str, labels: tuple[str, ...], values: tuple[str, ...], number: float
    ) -> None:
        key = (name, values)
        found = self._values.get(key)
        if found is None:
            assert self._value_class is not None
            mode = {"multiprocess_mode": "livesum"} if family.kind == "gauge" else {}
            value = self._value_class(family.kind, family.name, name, labels, values, family.help, **mode)
            value.set(number)
        elif found[1] != number:
            value = found[0]
            value.set(number)
        else:
            return
        self._values[key] = (value, number)

    async def render(self) -> bytes:
        """Everything as text; made anew at most once a second, because anybody may ask."""
        now = time.monotonic()
        if now - self._shown_at >= _SHOWN_AGAIN_S:
            self._shown_at = now
            registry = CollectorRegistry(auto_describe=False)
            if self._folder is None:
                registry.register(_Collected([family.metric() for family in self._families if family.children]))
            else:
                self.flush()
                MultiProcessCollector(registry, path=self._folder)  # type: ignore[no-untyped-call]
            self._shown = await asyncio.to_thread(generate_latest, registry)
        return self._shown


class _Collected(Collector):
    """Metrics that were put together before."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def forget_process(pid: int, folder: Path | None = None) -> None:
    """A process has ended: its gauges are not counted any more; its counters stay.

    Args:
        pid: of the process.
        folder: where processes put their numbers; by default what PROMETHEUS_MULTIPROC_DIR says.
    """
    mark_process_dead(pid, folder and str(folder))  # type: ignore[no-untyped-call]


# --- of a process that answers HTTP -----------------------------------------------------------------------------------


class _OfModels:
    """Numbers that every model has."""

    def __init__(self) -> None:
        self.prompt = _family("vllm:prompt_tokens", "counter", "Tokens of prompts read.")
        self.generation = _family("vllm:generation_tokens", "counter", "Tokens generated.")
        self.success = _family(
            "vllm:request_success", "counter", "Answers by how they ended.", labels=("model_name", "finished_reason")
        )
        self.to_first = _histogram("vllm:time_to_first_token_seconds", "From arrival to first token.", _TO_FIRST_TOKEN)
        self.between = _histogram("vllm:inter_token_latency_seconds", "Between tokens.", _BETWEEN_TOKENS)
        self.whole = _histogram("vllm:e2e_request_latency_seconds", "From arrival to the end.", _OF_REQUESTS)
        self.of_prompt = _histogram("vllm:request_prompt_tokens", "Tokens of a request's prompts.", _TOKENS)
        self.of_answer = _histogram("vllm:request_generation_tokens", "Tokens of a request's answers.", _TOKENS)


class Metrics:
    """What a worker counts. To be made once a process."""

    def __init__(self) -> None:
        http = ("path", "method", "status", "app")
        self._http = _family("genai_http_requests", "counter", "Requests answered.", labels=http)
        self._in_flight = _family("genai_http_in_flight", "gauge", "Requests under way.", labels=())
        self._of_models = _OfModels()
        self._told = _Told([self._http, self._in_flight, *vars(self._of_models).values()])
        self._under_way: Number = self._in_flight.child()
        self._requests: dict[tuple[str, str, int, str], Number] = {}
        self._models: dict[str, _Model] = {}

    def inter_token(self, model: str, seconds: float) -> None:
        """A token came so long after the one before it; once a streamed event.

        Args:
            model: known to exist.
            seconds: between them.
        """
        self._model(model).between.observe(seconds)

    def http_begins(self) -> None:
        """A request came."""
        self._under_way.value += 1

    def http_ends(self, method: str, path: str, status: int, app: str, notes: Notes, duration_s: float) -> None:
        """A request is over.

        Args:
            method: as it was sent.
            path: as the API has it.
            status: that was answered.
            app: whose it was.
            notes: what the API told of it.
            duration_s: from its arrival.
        """
        self._under_way.value -= 1
        key = (path, method, status, app)
        requests = self._requests.get(key)
        if requests is None:
            known = method if method in _METHODS else "other"
            requests = self._requests[key] = self._http.child(path, known, str(status), app)
        requests.value += 1
        if notes.model:
            self._model(notes.model).ends(notes, duration_s)
        self._told.changed()

    async def render(self) -> bytes:
        """The text for Prometheus, other processes' numbers included."""
        return await self._told.render()

    def flush(self) -> None:
        """Let other processes see the last numbers (before this one ends)."""
        self._told.flush()

    def _model(self, name: str) -> _Model:
        found = self._models.get(name)
        if found is None:
            found = self._models[name] = _Model(self._of_models, name)
        return found


class _Model:
    """The numbers of one model, each looked up once."""

    def __init__(self, families: _OfModels, name: str) -> None:
        self.between: Histogram = families.between.child(name)
        self._prompt: Number = families.prompt.child(name)
        self._generation: Number = families.generation.child(name)
        self._to_first: Histogram = families.to_first.child(name)
        self._whole: Histogram = families.whole.child(name)
        self._of_prompt: Histogram = families.of_prompt.child(name)
        self._of_answer: Histogram = families.of_answer.child(name)
        self._success: dict[str, Number] = {reason: families.success.child(name, reason) for reason in _REASONS}

    def ends(self, notes: Notes, duration_s: float) -> None:
        self._prompt.value += notes.prompt_tokens
        for reason in notes.finish_reasons:
            self._success[reason].value += 1
        self._whole.observe(duration_s)
        self._of_prompt.observe(notes.prompt_tokens)
        if notes.completion_tokens:
            self._generation.value += notes.completion_tokens
            self._of_answer.observe(notes.completion_tokens)
        if notes.first_token_s is not None:
            self._to_first.observe(notes.first_token_s)


# --- of the engine's process ------------------------------------------------------------------------------------------


class EngineMetrics:
    """What the engine's process counts. To be made once a process, where PROMETHEUS_MULTIPROC_DIR is set."""

    def __init__(self) -> None:
        self._running = _family("vllm:num_requests_running", "gauge", "Requests that are being worked on.")
        self._waiting = _family("vllm:num_requests_waiting", "gauge", "Requests that wait.")
        self._usage = _family("vllm:kv_cache_usage_perc", "gauge", "Share of the cache in use; 1 is all of it.")
        self._queries = _family("vllm:prefix_cache_queries", "counter", "Tokens of prompts looked up in the cache.")
        self._hits = _family("vllm:prefix_cache_hits", "counter", "Tokens of prompts found in the cache.")
        self._preemptions = _family("vllm:num_preemptions", "counter", "Answers that had to wait for memory again.")
        self._crashes = _family("genai_engine_crashes", "counter", "Steps that failed.")
        self._queue = _histogram("vllm:request_queue_time_seconds", "Time spent waiting.", _OF_REQUESTS)
        self._told = _Told(
            [
                *(self._running, self._waiting, self._usage, self._queries, self._hits, self._preemptions),
                *(self._crashes, self._queue),
            ]
        )

    def update(
        self,
        model: str,
        *,
        running: int,
        waiting: int,
        crashes: int,
        kv_usage: float | None = None,
        prefix_queries: int = 0,
        prefix_hits: int = 0,
        preemptions: int = 0,
        **_: object,
    ) -> None:
        """How it goes with an engine, and let the workers see it; what counts, counts from its beginning.

        Args:
            model: name of the endpoint.
            running: requests that are being worked on.
            waiting: requests that wait.
            crashes: steps that failed.
            kv_usage: share of the cache in use; None (and nothing of the next three) for encoders and rerankers.
            prefix_queries: tokens looked up in the cache.
            prefix_hits: tokens found there.
            preemptions: answers that had to wait for memory again.
            _: further figures, which are not told.
        """
        self._running.child(model).value = running
        self._waiting.child(model).value = waiting
        self._crashes.child(model).value = crashes
        if kv_usage is not None:
            self._usage.child(model).value = kv_usage
            self._queries.child(model).value = prefix_queries
            self._hits.child(model).value = prefix_hits
            self._preemptions.child(model).value = preemptions
        self.flush()

    def queued(self, model: str, seconds: float) -> None:
        """A request waited so long before it was worked on."""
        self._queue.child(model).observe(seconds)

    def flush(self) -> None:
        """Let the workers see the numbers."""
        self._told.flush()

    async def render(self) -> bytes:
        """The text for Prometheus."""
        return await self._told.render()


def _family(name: str, kind: Kind, help_text: str, *, labels: tuple[str, ...] = ("model_name",)) -> _Family:
    return _Family(name=name, kind=kind, help=help_text, labels=labels)


def _histogram(name: str, help_text: str, bounds: tuple[float, ...]) -> _Family:
    return _Family(name=name, kind="histogram", help=help_text, labels=("model_name",), bounds=bounds)
