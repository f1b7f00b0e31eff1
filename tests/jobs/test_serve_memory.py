"""What the models of a server take, and that too much is told in a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from genai.config.serve import MemoryConfig, ModelEndpointConfig, ServeConfig
from genai.errors import UsageError
from genai.jobs import serve_memory
from genai.jobs.serve_memory import (
    ENGINE_BYTES,
    WORKER_BYTES,
    ModelMemory,
    check_fits,
    limit_bytes,
    needed_bytes,
)
from genai.jobs.serve_models import Served

MB = 1 << 20
PROCESSES = ENGINE_BYTES + 2 * WORKER_BYTES


class Model:
    """One that takes so many bytes."""

    def __init__(self, name: str, size: int, *, is_lazy: bool = False) -> None:
        self.name = name
        self.size = size
        self.is_lazy = is_lazy
        self.planned_bytes = 0


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """1000 MB are free beside what the processes take."""

    def memory_of(served: Any) -> ModelMemory:
        return ModelMemory(name=served.name, parts={"weights": served.size}, is_lazy=served.is_lazy)

    monkeypatch.setattr("genai.training.plan.limits.available_cpu_bytes", lambda: PROCESSES + 1000 * MB)
    monkeypatch.setattr(serve_memory, "memory_of", memory_of)


def config(limit: str | None = None) -> ServeConfig:
    return ServeConfig(endpoints={"chat": ModelEndpointConfig(model="./chat")}, memory=MemoryConfig(limit=limit))


def check(*models: Model, limit: str | None = None, beside: list[Model] | None = None) -> None:
    check_fits(cast("list[Served]", models), config(limit), beside=cast("list[Served] | None", beside))


def test_of_lazy_models_the_largest_alone_is_counted() -> None:
    models = [
        ModelMemory(name="a", parts={"weights": 3, "a step": 4}, is_lazy=False),
        ModelMemory(name="b", parts={"weights": 10}, is_lazy=True),
        ModelMemory(name="c", parts={"weights": 5}, is_lazy=True),
    ]
    assert needed_bytes(models) == 17
    assert needed_bytes([]) == 0


def test_models_fit_with_the_processes_around_them() -> None:
    models = [Model("chat", 600 * MB), Model("small", 400 * MB)]
    check(*models)
    assert [model.planned_bytes for model in models] == [600 * MB, 400 * MB]


def test_what_does_not_fit_is_told_in_one_line() -> None:
    with pytest.raises(UsageError) as caught:
        check(Model("chat", 600 * MB), Model("large", 500 * MB, is_lazy=True))
    (problem,) = caught.value.problems
    assert "\n" not in problem.line()
    for said in ("do not fit into memory", "chat 0.59 GiB", "large 500.0 MiB", "with the processes around them"):
        assert said in problem.message
    assert problem.fix is not None
    assert "kv_cache" in problem.fix


def test_a_limit_counts_what_is_loaded_already() -> None:
    limit = f"{(PROCESSES >> 20) + 700}mb"
    loaded = Model("chat", 500 * MB)
    check(loaded, limit=limit)
    check(Model("fits", 200 * MB), limit=limit, beside=[loaded])
    with pytest.raises(UsageError, match="beside what is loaded"):
        check(Model("large", 201 * MB), limit=limit, beside=[loaded])
    check(Model("large", 700 * MB), limit=limit, beside=[])


def test_without_a_limit_what_the_machine_has_free_counts() -> None:
    check(Model("large", PROCESSES + 1000 * MB), beside=[Model("chat", 5000 * MB)])
    with pytest.raises(UsageError, match="are free"):
        check(Model("large", PROCESSES + 1001 * MB), beside=[])


def test_a_limit_beyond_what_is_free_does_not_help() -> None:
    assert limit_bytes(config("900gb")) == PROCESSES + 1000 * MB
    assert limit_bytes(config("10mb")) == 10 * MB
    assert limit_bytes(config("10mb"), taken=20 * MB) == 0


def test_a_model_that_was_refused_counts_for_nothing(tmp_path: Path) -> None:
    model = Model("large", 5000 * MB)
    with pytest.raises(UsageError):
        check(model)
    assert model.planned_bytes == 0
