"""`genai serve --dry-run`: what would be served and what it would take, without taking a port or loading weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from genai.config.loading import Loaded
from genai.config.serve import IndexEndpointConfig, ServeConfig
from genai.errors import ConfigError
from genai.jobs.problems import Problems
from genai.jobs.serve_indexes import IndexCard, index_card
from genai.jobs.serve_inputs import check_inputs
from genai.jobs.serve_memory import (
    ENGINE_BYTES,
    TOO_MUCH_FIX,
    WORKER_BYTES,
    ModelMemory,
    limit_bytes,
    memory_of,
    needed_bytes,
    too_much,
)
from genai.jobs.serve_models import Surroundings, make_served
from genai.jobs.training_plan import size_text, table
from genai.models.generation import ModelCard


@dataclass(frozen=True, kw_only=True)
class ServePlan:
    """What a server would come to."""

    url: str
    """Where it would answer; port 0 is a free one."""
    workers: int
    apps: tuple[str, ...]
    """Who would have keys; none: anybody on this machine."""
    models: tuple[ModelCard, ...]
    indexes: tuple[IndexCard, ...]
    memory: tuple[ModelMemory, ...]
    processes_bytes: int
    """Of the processes without models."""
    needed_bytes: int
    """Of all that may be there at once."""
    free_bytes: int
    """Of the machine or container, or memory.limit."""

    @property
    def fits(self) -> bool:
        """Whether it would start."""
        return self.needed_bytes <= self.free_bytes

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {**asdict(self), "fits": self.fits}

    def text(self) -> str:
        """As a terminal shows it."""
        return table([*self._lines()])

    def _lines(self) -> Iterator[tuple[str, str]]:
        yield "answers at", f"{self.url}/v1, {self.workers} HTTP worker{'s' if self.workers > 1 else ''}"
        yield "asked by", ", ".join(self.apps) or "anybody on this machine"
        for card, memory in zip(self.models, self.memory, strict=True):
            lazy = ", with the first request" if memory.is_lazy else ""
            yield card.name, f"{card.reference}: {size_text(memory.total_bytes)}{lazy}"
            for name, size in memory.parts.items():
                yield f"  {name}", size_text(size)
        for index in self.indexes:
            yield index.name, f"index of {index.num_chunks:,} chunks, {index.embedding.model}"
        yield "processes", size_text(self.processes_bytes)
        state = "" if self.fits else ": does NOT fit"
        yield "memory", f"{size_text(self.needed_bytes)} of {size_text(self.free_bytes)} that are free{state}"


def make_plan(loaded: Loaded[ServeConfig], *, allow_code: bool = False) -> ServePlan:
    """Look at everything that a job file names.

    Args:
        loaded: the checked job file.
        allow_code: the command line lets models bring their own Python.

    Raises:
        ConfigError: what it names is not there, or does not fit into memory.
        CredentialsError: a key cannot be found.
    """
    check_inputs(loaded, allow_code=allow_code)
    config = loaded.config
    around = _around(config, allow_code=allow_code)
    problems = Problems(loaded)
    cards, memory = [], []
    for name, endpoint in config.endpoints.items():
        served = make_served(name, endpoint, around)
        if served is None:
            continue
        with problems.at(f"endpoints.{name}"):
            served.find()
            memory.append(memory_of(served))
            cards.append(served.card)
    problems.raise_all()
    indexes = [
        index_card(endpoint.index, config.indexes_dir)
        for endpoint in config.endpoints.values()
        if isinstance(endpoint, IndexEndpointConfig)
    ]
    processes = ENGINE_BYTES + WORKER_BYTES * (config.listen.workers + 1)
    plan = ServePlan(
        url=f"http://{config.listen.host}:{config.listen.port}",
        workers=config.listen.workers,
        apps=tuple(config.apps),
        models=tuple(cards),
        indexes=tuple(indexes),
        memory=tuple(memory),
        processes_bytes=processes,
        needed_bytes=processes + needed_bytes(memory),
        free_bytes=limit_bytes(config),
    )
    if not plan.fits:
        message = too_much(memory, plan.needed_bytes, plan.free_bytes, "with the processes around them")
        raise ConfigError([loaded.problem("endpoints", message, TOO_MUCH_FIX)])
    return plan


def _around(config: ServeConfig, *, allow_code: bool) -> Surroundings:
    return Surroundings(
        runs_dir=config.runs_dir,
        num_threads=config.num_threads,
        grammar_timeout_s=config.limits.grammar_timeout_s,
        allow_code=allow_code,
        publish_events=_nothing,
        publish_embedded=_nothing,
        publish_reranked=_nothing,
        progress=_nothing,
    )


def _nothing(*_: object) -> None:
    """Nobody asks."""
