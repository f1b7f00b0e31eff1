"""How much memory the models of a server take, and whether that much is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from genai.config.serve import EncoderEndpointConfig, ServeConfig
from genai.config.sizes import parse_size
from genai.errors import UsageError
from genai.inference.memory import plan_encoder_memory, plan_memory
from genai.jobs.serve_models import Served, ServedText
from genai.jobs.training_plan import size_text

ENGINE_BYTES = 450 << 20
"""Of the engine's process without any model: Python, torch, transformers. An estimate with room: 255 MB were seen."""
WORKER_BYTES = 110 << 20
"""Of a process that answers HTTP, and of the one that watches them. An estimate with room: 44 MiB were seen."""
TOO_MUCH_FIX = "lower engine.kv_cache or max_num_seqs, take precision: int8, or load: lazy with unload_after_s"


@dataclass(frozen=True, kw_only=True)
class ModelMemory:
    """What one model takes."""

    name: str
    """Of the endpoint."""
    parts: Mapping[str, int]
    """Weights, cache, ...: bytes."""
    is_lazy: bool
    """It is loaded by its first request."""

    @property
    def total_bytes(self) -> int:
        """Of all parts."""
        return sum(self.parts.values())


def memory_of(served: Served) -> ModelMemory:
    """What a model will take; its files were found.

    Raises:
        DataError: its files do not tell.
    """
    folder = Path(served.card.folder)
    is_lazy = served.config.load == "lazy"
    if isinstance(served, ServedText):
        text = plan_memory(folder, served.config.engine, adapters=served.adapter_folders())
        parts = {
            "weights": text.weights_bytes,
            "keys and values": text.kv_bytes,
            "a step": text.workspace_bytes,
            "adapters": text.adapters_bytes,
        }
        return ModelMemory(name=served.name, parts=parts, is_lazy=is_lazy)
    precision = served.config.embedding.precision if isinstance(served.config, EncoderEndpointConfig) else "fp32"
    encoder = plan_encoder_memory(folder, precision=precision, max_batch_tokens=served.config.max_batch_tokens)
    parts = {"weights": encoder.weights_bytes, "a batch": encoder.workspace_bytes}
    return ModelMemory(name=served.name, parts=parts, is_lazy=is_lazy)


def needed_bytes(models: Sequence[ModelMemory]) -> int:
    """Of models that may all be there: those from the start, and the largest of the lazy ones."""
    at_start = sum(model.total_bytes for model in models if not model.is_lazy)
    return at_start + max((model.total_bytes for model in models if model.is_lazy), default=0)


def limit_bytes(config: ServeConfig, *, taken: int = 0) -> int:
    """What a server may take beside what it has: the least of what is free and what its own limit leaves.

    Args:
        config: of the server.
        taken: bytes that it has already.
    """
    from genai.training.plan.limits import available_cpu_bytes

    free = available_cpu_bytes()
    return free if config.memory.limit is None else min(free, max(0, parse_size(config.memory.limit) - taken))


def check_fits(served: Sequence[Served], config: ServeConfig, *, beside: Sequence[Served] | None) -> None:
    """Refuse models that would not fit.

    Args:
        served: that are to be loaded; their files were found.
        config: of the server.
        beside: those that are loaded already, all of them seen to fit; None at the start of a server, when its
            processes have yet to grow.

    Raises:
        UsageError: they do not fit; says what each takes.
        DataError: files of one do not tell.
    """
    models = [memory_of(each) for each in served]
    needed, processes = needed_bytes(models), ENGINE_BYTES + WORKER_BYTES * (config.listen.workers + 1)
    if beside is None:
        needed, free = needed + processes, limit_bytes(config)
    else:
        free = limit_bytes(config, taken=processes + sum(each.planned_bytes for each in beside))
    if needed <= free:
        for each, model in zip(served, models, strict=True):
            each.planned_bytes = model.total_bytes
        return
    place = "with the processes around them" if beside is None else "beside what is loaded"
    raise UsageError(too_much(models, needed, free, place), where="endpoints", fix=TOO_MUCH_FIX)


def too_much(models: Sequence[ModelMemory], needed: int, free: int, place: str) -> str:
    """What is told of models that do not fit.

    Args:
        models: that are wanted.
        needed: bytes.
        free: bytes.
        place: what else was counted.
    """
    parts = ", ".join(f"{model.name} {size_text(model.total_bytes)}" for model in models)
    return (
        f"the models do not fit into memory: {size_text(needed)} are needed {place} ({parts}), "
        f"{size_text(free)} are free"
    )
