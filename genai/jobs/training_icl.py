"""Tasks of in-context learning while a model is trained: measured with the held-out rows, logged beside their loss.

They are those of `genai eval` (`icl_tasks`), with the same prompts and the same accuracies. Rank 0 measures alone, with
the weights as they are, while the others wait for it; so every rank must hold the whole model.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from genai.config.training import CausalTrainingConfig
from genai.errors import UsageError
from genai.evaluation.icl.metrics import metrics_of
from genai.evaluation.icl.tasks import load_icl
from genai.evaluation.interfaces import Metric
from genai.evaluation.likelihood import LikelihoodModel, answer
from genai.evaluation.records import Continuations, Example, Score, WholeText
from genai.log import get_logger, progress
from genai.models.likelihoods import TransformersLikelihoods
from genai.models.llama.model import Llama
from genai.tables.delta import open_delta
from genai.training.callbacks.base import Callback, EvalInfo
from genai.training.parallel.parallelize import strategy_of
from genai.training.parallel.ranks import Ranks
from genai.training.precision import autocast

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_BATCH_SIZE = 16
"""Rows of a forward pass, where neither the task nor the job says it."""
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task with its examples."""

    label: str
    """`copa/2-shot`."""
    examples: tuple[Example, ...]
    metrics: Mapping[str, Metric]
    batch_size: int


def icl_callbacks(
    config: CausalTrainingConfig, model: nn.Module, tokenizer: Any, ranks: Ranks, *, max_length: int
) -> tuple[Callback, ...]:
    """What measures `icl_tasks` at every evaluation; nothing on ranks other than 0, or where the job has none.

    Args:
        config: the job.
        model: that is trained: one of transformers, one of peft around it, or our own.
        tokenizer: its own.
        ranks: who takes part.
        max_length: tokens of a row, at most.

    Raises:
        UsageError: the weights are sharded over ranks, or a metric does not belong to its task.
        DataConfigError: there is no such file.
        DataError: a row cannot be used.
    """
    if not config.icl_tasks:
        return ()
    sharded = strategy_of(config.parallel, config.fsdp_config) == "fsdp2"
    if ranks.world_size > 1 and (sharded or config.parallel.tensor_parallel_degree > 1):
        raise UsageError(
            "icl_tasks are measured where every rank holds the whole model",
            where="icl_tasks",
            fix="write parallel: {strategy: ddp}, or evaluate the finished model with genai eval",
        )
    if not ranks.is_main:
        return ()
    return (IclAccuracies(config, model, tokenizer, ranks.device, max_length=max_length),)


class IclAccuracies(Callback):
    """Logs `icl/LABEL/2-shot/accuracy` at every evaluation.

    Args:
        config: the job.
        model: that is trained.
        tokenizer: its own.
        device: where it lies.
        max_length: tokens of a row, at most.
    """

    def __init__(
        self, config: CausalTrainingConfig, model: nn.Module, tokenizer: Any, device: torch.device, *, max_length: int
    ) -> None:
        self._precision = config.precision
        self._device = device
        self._model = model
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._tasks = _load(config)

    def eval_end(self, info: EvalInfo) -> Mapping[str, float]:
        """The accuracies of the weights as they are now; their training mode is left as it was."""
        was_training = self._model.training
        self._model.eval()
        found: dict[str, float] = {}
        try:
            with progress("in-context tasks", len(self._tasks)) as bar:
                for number, task in enumerate(self._tasks):
                    with autocast(self._precision, self._device):
                        found |= _measure(task, self._likelihoods(task.batch_size))
                    bar.update(number + 1)
        finally:
            self._model.train(was_training)
        _log.info("batch %d: %s", info.batch, ", ".join(f"{name} {value:.3f}" for name, value in found.items()))
        return found

    def _likelihoods(self, batch_size: int) -> LikelihoodModel:
        watched = cast("PreTrainedModel", _Watched(self._model))
        return TransformersLikelihoods(watched, self._tokenizer, batch_size=batch_size, max_length=self._max_length)


class _Watched:
    """A model in training, called as transformers' are.

    Tensors that it keeps (tables of positions that grow) are made outside of torch's inference mode, since training
    could not use them otherwise.

    Args:
        model: one of transformers, one of peft around it, or our own.
    """

    def __init__(self, model: nn.Module) -> None:
        # What peft has put into a model stays in it.
        wrapped: Any = model
        self._model = wrapped.get_base_model() if hasattr(model, "get_base_model") else wrapped
        self._is_ours = isinstance(model, Llama)
        self._keeps_logits = "logits_to_keep" in inspect.signature(self._model.forward).parameters

    @property
    def device(self) -> torch.device:
        return cast(torch.device, self._model.get_input_embeddings().weight.device)

    def forward(self, input_ids: torch.Tensor, use_cache: bool = False, logits_to_keep: int = 0) -> Any:
        with torch.inference_mode(False), torch.no_grad():
            if self._is_ours:
                return SimpleNamespace(logits=self._model(input_ids))
            arguments = {"logits_to_keep": logits_to_keep} if self._keeps_logits else {}
            return self._model(input_ids=input_ids, use_cache=use_cache, **arguments)

    __call__ = forward


def _load(config: CausalTrainingConfig) -> list[Task]:
    wanted = config.device_eval_batch_size
    default = _BATCH_SIZE if wanted == "auto" else wanted
    return [
        Task(label=label, examples=tuple(examples), metrics=metrics, batch_size=task.batch_size or default)
        for task in config.icl_tasks
        for metrics in [metrics_of(task)]
        for label, examples in load_icl(task, config.seed, open_table=open_delta)
    ]


def _measure(task: Task, model: LikelihoodModel) -> dict[str, float]:
    questions = [cast("Continuations | WholeText", example.question) for example in task.examples]
    outcomes = answer(model, questions)

    async def scores_of(metric: Metric) -> Sequence[Any]:
        return [await metric.score(example, outcome) for example, outcome in zip(task.examples, outcomes, strict=True)]

    found = {}
    for label, metric in task.metrics.items():
        parts = [score.parts for score in asyncio.run(scores_of(metric)) if isinstance(score, Score)]
        if parts:
            figure = metric.aggregate(np.array(parts), np.ones((1, len(parts))))
            found[f"icl/{task.label}/{label}"] = float(figure[0])
        if len(parts) < len(task.examples):
            _log.warning("%s: %d examples have no %s", task.label, len(task.examples) - len(parts), label)
    return found
