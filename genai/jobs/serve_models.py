"""The models behind the endpoints of `genai serve`, each with its thread: found, planned, loaded, let go of.

A model's files are found first, which tells its card; weights come later, at the start or with the first request.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from genai.config.serve import EncoderEndpointConfig, ModelEndpointConfig, RerankerEndpointConfig
from genai.embedding.encoder import TextEncoder
from genai.embedding.opening import find_folder, open_encoder
from genai.embedding.settings import read_settings
from genai.errors import UsageError
from genai.models.chat_template import template_text
from genai.models.fingerprint import fingerprint
from genai.models.generation import AdapterCard, EmbedResult, Event, ModelCard, RerankResult
from genai.models.references import ResolvedModel, resolve_adapter, resolve_model

if TYPE_CHECKING:
    from genai.inference.batching import BatchWorker
    from genai.inference.engine import LocalEngine
    from genai.inference.stats import BatchStats, EngineStats

ComputedConfig = ModelEndpointConfig | EncoderEndpointConfig | RerankerEndpointConfig
OnProgress = Callable[[str, float | None], None]
_FIRST_TEXT = "a first text, so that the weights are loaded"


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What all models of a server have in common."""

    runs_dir: str
    num_threads: int | None
    grammar_timeout_s: float
    allow_code: bool
    publish_events: Callable[[list[Event]], None]
    publish_embedded: Callable[[EmbedResult], None]
    publish_reranked: Callable[[RerankResult], None]
    progress: OnProgress


class Served(ABC):
    """One endpoint that computes. Its methods are called by one thread at a time.

    Args:
        name: of the endpoint.
        config: its section.
        around: what all models share.
    """

    card: ModelCard
    last_used: float
    """time.monotonic() of the last request."""
    planned_bytes: int = 0
    """What it was planned to take, when it was last seen to fit."""

    def __init__(self, name: str, config: Any, around: Surroundings) -> None:
        self.name = name
        self.config = config
        self.around = around
        self.last_used = time.monotonic()

    @abstractmethod
    def find(self) -> None:
        """Bring the files to this machine and make the card, without weights.

        Raises:
            GenaiError: they are not to be had, or are not what this endpoint needs.
        """

    @abstractmethod
    def load(self) -> None:
        """Load the weights and begin to work.

        Raises:
            GenaiError: they cannot be read, or there is not enough memory.
        """

    def another(self) -> Self:
        """The same endpoint, with nothing found or loaded."""
        return type(self)(self.name, self.config, self.around)

    @property
    @abstractmethod
    def is_loaded(self) -> bool:
        """Whether it works."""

    @property
    @abstractmethod
    def num_open(self) -> int:
        """Requests that wait or are under way."""

    @abstractmethod
    def submit(self, request: Any) -> None:
        """Take a request; loaded only."""

    @abstractmethod
    def abort(self, ids: Collection[str]) -> None:
        """Give requests up; those of others are passed over."""

    @abstractmethod
    def unload(self, *, drain_timeout_s: float) -> None:
        """Finish what is under way, at most so long, and give the memory back. While one call waits, a second one may
        shorten its time.
        """

    @abstractmethod
    def stats(self) -> EngineStats | BatchStats | None:
        """Figures of this moment; None while it is not loaded."""

    def check_code(self, asks: bool) -> None:
        """Refuse a model's own Python, unless the command line allows it."""
        if asks and not self.around.allow_code:
            raise UsageError(
                "this runs Python that comes with the model",
                where=f"endpoints.{self.name}.trust_remote_code",
                fix="read that code, then add --allow-code to the command line",
            )


class ServedText(Served):
    """A language model with its adapters."""

    config: ModelEndpointConfig

    def __init__(self, name: str, config: ModelEndpointConfig, around: Surroundings) -> None:
        super().__init__(name, config, around)
        self._engine: LocalEngine | None = None
        self._leaving: LocalEngine | None = None
        """Finishes what it has."""
        self.resolved: ResolvedModel | None = None
        self.adapters: dict[str, str] = dict(config.adapters)
        """Name -> reference, of those that are to be there."""
        self._stamps: dict[str, tuple[str, int]] = {}

    def another(self) -> Self:
        other = super().another()
        other.adapters = dict(self.adapters)
        return other

    def find(self) -> None:
        config = self.config
        self.check_code(config.trust_remote_code)
        self.resolved = resolve_model(config.model, runs_dir=self.around.runs_dir, revision=config.revision)
        adapters = [self._adapter_card(name, reference) for name, reference in self.adapters.items()]
        from genai.inference.opening import describe

        template = None if config.chat_template is None else template_text(config.chat_template)
        facts = describe(
            self.resolved,
            engine=config.engine,
            trust_remote_code=config.trust_remote_code,
            chat_template=template,
        )
        self.card = ModelCard(
            name=self.name,
            kind="text",
            state="unloaded",
            reference=config.model,
            folder=str(self.resolved.path),
            fingerprint=self.resolved.fingerprint,
            created=_created(self.resolved.path),
            max_model_len=facts.max_model_len,
            vocab_size=facts.vocab_size,
            stop_token_ids=list(facts.stop_token_ids),
            chat_template=template,
            adapters=adapters,
        )

    def load(self) -> None:
        from genai.inference.opening import enough_memory

        assert self.resolved is not None
        with enough_memory(self.resolved.reference, self.resolved.path):
            engine = self._start_engine(self.resolved)
            try:
                cards = [self._add(engine, name, reference) for name, reference in self.adapters.items()]
            except BaseException:
                engine.close()
                raise
        self._engine = engine
        self.card = replace(self.card, adapters=cards)

    def _start_engine(self, resolved: ResolvedModel) -> LocalEngine:
        from genai.inference.engine import LocalEngine
        from genai.inference.opening import open_model

        opened = open_model(
            resolved,
            engine=self.config.engine,
            num_threads=self.around.num_threads,
            trust_remote_code=self.config.trust_remote_code,
            chat_template=self.card.chat_template,
            progress=lambda text, share: self.around.progress(f"{self.name}: {text}", share),
        )
        return LocalEngine(
            self.name,
            opened,
            config=self.config.engine,
            emit=self.around.publish_events,
            grammar_timeout_s=self.around.grammar_timeout_s,
        )

    def set_adapters(self, wanted: Mapping[str, str]) -> None:
        """Bring the adapters to what a job file says; those that are the same stay as they are.

        Raises:
            GenaiError: one cannot be had; others may have changed by then.
        """
        gone = [name for name in self.adapters if name not in wanted]
        is_full = len(wanted) + len(gone) > self.config.engine.max_adapters
        if is_full:
            self._remove_adapters(gone)
        for name, reference in wanted.items():
            if not self.has_adapter(name, reference):
                self.add_adapter(name, reference)
        if not is_full:
            self._remove_adapters(gone)

    def _remove_adapters(self, names: Sequence[str]) -> None:
        for name in names:
            self.remove_adapter(name)

    def add_adapter(self, name: str, reference: str) -> None:
        """Load an adapter, or put another one in its place; answers under way keep what they began with.

        Raises:
            UsageError: it does not fit the model.
            DataError: it cannot be read.
        """
        if self._engine is None:
            stamp, card = self._stamp(reference), self._adapter_card(name, reference)
            self._stamps[name] = stamp
        else:
            card = self._add(self._engine, name, reference)
        self.adapters[name] = reference
        others = [each for each in self.card.adapters if each.name != name]
        self.card = replace(self.card, adapters=[*others, card])

    def adapter_folders(self) -> list[Path]:
        """Of all that are to be there.

        Raises:
            UsageError: one is missing.
        """
        return [resolve_adapter(each, runs_dir=self.around.runs_dir) for each in self.adapters.values()]

    def has_adapter(self, name: str, reference: str) -> bool:
        """Whether the very adapter that a reference names now is there under a name."""
        return self._stamps.get(name) == self._stamp(reference)

    def remove_adapter(self, name: str) -> None:
        """Let go of an adapter, once the last answer that needs it is over."""
        if self._engine is not None:
            self._engine.remove_adapter(name)
        self.adapters.pop(name, None)
        self._stamps.pop(name, None)
        self.card = replace(self.card, adapters=[each for each in self.card.adapters if each.name != name])

    def _adapter_card(self, name: str, reference: str) -> AdapterCard:
        """Of an adapter that is not loaded: requests can name it all the same."""
        path = resolve_adapter(reference, runs_dir=self.around.runs_dir)
        return AdapterCard(
            name=name, reference=reference, fingerprint=fingerprint(path), rank=0, created=_created(path)
        )

    def _stamp(self, reference: str) -> tuple[str, int]:
        """Changes when other weights come under the same reference."""
        path = resolve_adapter(reference, runs_dir=self.around.runs_dir)
        return reference, max(file.stat().st_mtime_ns for file in path.iterdir())

    def _add(self, engine: LocalEngine, name: str, reference: str) -> AdapterCard:
        self.around.progress(f"{self.name}: adapter {name} from {reference}", None)
        stamp = self._stamp(reference)
        path = resolve_adapter(reference, runs_dir=self.around.runs_dir)
        card = engine.add_adapter(name, reference, path)
        self._stamps[name] = stamp
        return card

    @property
    def is_loaded(self) -> bool:
        return self._engine is not None

    @property
    def num_open(self) -> int:
        return self._engine.num_open if self._engine is not None else 0

    @property
    def failed(self) -> str | None:
        """Why its engine gave up; None while it works."""
        return self._engine.failed if self._engine is not None else None

    def submit(self, request: Any) -> None:
        assert self._engine is not None
        self._engine.submit(request)

    def abort(self, ids: Collection[str]) -> None:
        for engine in (self._engine, self._leaving):
            if engine is not None:
                engine.abort(ids)

    def unload(self, *, drain_timeout_s: float) -> None:
        if self._engine is not None:
            self._leaving, self._engine = self._engine, None
        engine = self._leaving
        if engine is not None:
            engine.drain(drain_timeout_s)
            engine.close()
            self._leaving = None

    def stats(self) -> EngineStats | None:
        return self._engine.stats() if self._engine is not None else None

    def take_queue_times(self) -> list[float]:
        """Seconds that requests waited before they were begun, of those since the last call."""
        return self._engine.take_queue_times() if self._engine is not None else []


class ServedInBatches(Served):
    """An encoder or a reranker: what several requests want is read together."""

    def __init__(self, name: str, config: Any, around: Surroundings, *, is_internal: bool = False) -> None:
        super().__init__(name, config, around)
        self._is_internal = is_internal
        self._worker: BatchWorker[Any, Any, Any, Any] | None = None
        self._leaving: BatchWorker[Any, Any, Any, Any] | None = None
        """Finishes what it has."""

    def another(self) -> Self:
        return type(self)(self.name, self.config, self.around, is_internal=self._is_internal)

    @property
    def is_loaded(self) -> bool:
        return self._worker is not None

    @property
    def num_open(self) -> int:
        return self._worker.num_open if self._worker is not None else 0

    def submit(self, request: Any) -> None:
        assert self._worker is not None
        self._worker.submit(request)

    def abort(self, ids: Collection[str]) -> None:
        for worker in (self._worker, self._leaving):
            if worker is not None:
                for each in ids:
                    worker.abort(each)

    def load(self) -> None:
        from genai.inference.opening import enough_memory

        self.around.progress(f"{self.name}: {self.card.reference}", None)
        with enough_memory(self.card.reference, Path(self.card.folder)):
            self._worker = self._start_worker()

    @abstractmethod
    def _start_worker(self) -> BatchWorker[Any, Any, Any, Any]:
        """Load the weights."""

    def unload(self, *, drain_timeout_s: float) -> None:
        if self._worker is not None:
            self._leaving, self._worker = self._worker, None
        worker = self._leaving
        if worker is not None:
            worker.drain(drain_timeout_s)
            worker.close()
            self._leaving = None

    def stats(self) -> BatchStats | None:
        return self._worker.stats() if self._worker is not None else None


class ServedEncoder(ServedInBatches):
    """An embedding model."""

    config: EncoderEndpointConfig

    def find(self) -> None:
        embedding = self.config.embedding
        self.check_code(embedding.trust_remote_code)
        encoder = self._open()
        folder = find_folder(embedding.model, embedding.revision, self.around.runs_dir)
        self.card = ModelCard(
            name=self.name,
            kind="encoder",
            state="unloaded",
            reference=embedding.model,
            folder=str(folder),
            fingerprint=encoder.fingerprint,
            created=_created(folder),
            max_model_len=encoder.max_tokens,
            dimension=encoder.dimension,
            default_role=self.config.default_role,
            is_internal=self._is_internal,
        )

    def _start_worker(self) -> BatchWorker[Any, Any, Any, Any]:
        from genai.inference.batching import EncoderWorker

        encoder = self._open()
        encoder.embed_queries([_FIRST_TEXT])
        return EncoderWorker(
            self.name,
            encoder,
            max_batch_tokens=self.config.max_batch_tokens,
            max_waiting=self.config.max_waiting,
            emit=self.around.publish_embedded,
        )

    def _open(self) -> TextEncoder:
        around = self.around
        encoder = open_encoder(self.config.embedding, runs_dir=around.runs_dir, num_threads=around.num_threads)
        assert isinstance(encoder, TextEncoder), "other servers' encoders are refused with the job file"
        return encoder


class ServedReranker(ServedInBatches):
    """A model that scores query and text together."""

    config: RerankerEndpointConfig

    _folder: Path | None = None

    def find(self) -> None:
        self._folder = find_folder(self.config.model, None, self.around.runs_dir)
        self.card = ModelCard(
            name=self.name,
            kind="reranker",
            state="unloaded",
            reference=self.config.model,
            folder=str(self._folder),
            fingerprint=fingerprint(self._folder),
            created=_created(self._folder),
            max_model_len=read_settings(self._folder).max_length,
            is_internal=self._is_internal,
        )

    def _start_worker(self) -> BatchWorker[Any, Any, Any, Any]:
        from genai.embedding.cross_encoder import CrossEncoder
        from genai.inference.batching import RerankerWorker

        assert self._folder is not None
        reranker = CrossEncoder(self._folder, num_threads=self.around.num_threads)
        reranker.score("a query", [_FIRST_TEXT])
        return RerankerWorker(
            self.name,
            reranker,
            max_batch_tokens=self.config.max_batch_tokens,
            max_waiting=self.config.max_waiting,
            emit=self.around.publish_reranked,
        )


def make_served(name: str, config: Any, around: Surroundings) -> Served | None:
    """An endpoint that computes, None for one that does not (an index)."""
    if isinstance(config, ModelEndpointConfig):
        return ServedText(name, config, around)
    if isinstance(config, EncoderEndpointConfig):
        return ServedEncoder(name, config, around)
    if isinstance(config, RerankerEndpointConfig):
        return ServedReranker(name, config, around)
    return None


def _created(folder: Path) -> int:
    return int(folder.stat().st_mtime)
