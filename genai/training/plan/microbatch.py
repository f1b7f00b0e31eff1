"""Rows of a forward pass: as many as the device works well with, and no more than fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn

from genai.config.finetune import FinetuneConfig
from genai.errors import GenaiError
from genai.training.plan.limits import available_bytes
from genai.training.plan.memory import MemoryPlan, imagine_model, predict_memory
from genai.training.plan.simulate import Shape

_GOOD_TOKENS = {"cpu": 1024, "cuda": 32768}
"""Tokens of a forward pass beyond which a device gets no faster: on a CPU larger passes only take more memory."""
_USABLE = {"cpu": 0.85, "cuda": 0.92}
"""Share of the available memory that a prediction may come to."""


def plan_memory(meta: nn.Module, config: FinetuneConfig, *, microbatch: int, device: torch.device) -> MemoryPlan:
    """The predicted peak of a job at a given microbatch.

    Args:
        meta: the plain model on the meta device.
        config: the job.
        microbatch: rows of a forward pass.
        device: where it will run.
    """
    return _Planner(meta, config, device).plan(microbatch)


def choose_microbatch(
    meta: nn.Module, config: FinetuneConfig, *, device: torch.device, mean_row_tokens: float | None = None
) -> int:
    """Rows of a forward pass for `device_train_microbatch_size: auto`.

    Args:
        meta: the plain model on the meta device.
        config: the job.
        device: where it will run.
        mean_row_tokens: typical length of a row without packing; None for max_seq_len.

    Raises:
        GenaiError: not even one row fits; says what would.
    """
    planner = _Planner(meta, config, device)
    wanted = max(1, round(_GOOD_TOKENS[device.type] / (mean_row_tokens or planner.seq_len)))
    for rows in _halves(min(wanted, config.global_train_batch_size)):
        if planner.fits(rows):
            return rows
    raise planner.refusal(1)


def check_fits(meta: nn.Module, config: FinetuneConfig, *, microbatch: int, device: torch.device) -> None:
    """Refuse a microbatch that cannot fit, before anything is loaded.

    Raises:
        GenaiError: with the largest setting that does fit.
    """
    planner = _Planner(meta, config, device)
    if not planner.fits(microbatch):
        raise planner.refusal(microbatch)


def _halves(number: int) -> Iterator[int]:
    while number > 1:
        yield number
        number = -(-number // 2)
    yield 1


class _Planner:
    """Predictions for one job, and what they are held against."""

    def __init__(self, meta: nn.Module, config: FinetuneConfig, device: torch.device) -> None:
        self.seq_len = config.train_loader.dataset.max_seq_len or config.max_seq_len
        self._meta = meta
        self._config = config
        self._device = device
        self._available = available_bytes(device)
        self._model = imagine_model(meta, config)

    def plan(self, rows: int, *, seq_len: int | None = None, model: nn.Module | None = None) -> MemoryPlan:
        config = self._config
        quantization = config.model.quantization
        return predict_memory(
            self._model if model is None else model,
            precision=config.precision,
            optimizer=config.optimizer,
            shape=Shape(rows, seq_len or self.seq_len),
            accumulate=rows < config.global_train_batch_size,
            device=self._device,
            weight_bits=None if quantization is None else quantization.bits,
        )

    def fits(self, rows: int, *, seq_len: int | None = None, model: nn.Module | None = None) -> bool:
        plan = self.plan(rows, seq_len=seq_len, model=model)
        return plan.total_bytes <= _USABLE[self._device.type] * self._available

    def refusal(self, rows: int) -> GenaiError:
        plan = self.plan(rows)
        return GenaiError(
            f"{rows} x {self.seq_len} tokens need about {plan.total_bytes / 2**30:.1f} GiB, "
            f"{self._available / 2**30:.1f} GiB are free",
            where="device_train_microbatch_size",
            fix=self._largest_that_fits(rows),
        )

    def _largest_that_fits(self, rows: int) -> str:
        for fewer in _halves(rows):
            if fewer < rows and self.fits(fewer):
                return f"set device_train_microbatch_size: {fewer}"
        checkpointed = imagine_model(self._meta, replace(self._config, activation_checkpointing=True))
        if self.fits(1, model=checkpointed):
            return "set activation_checkpointing: true and device_train_microbatch_size: 1"
        for seq_len in _halves(self.seq_len):
            if self.fits(1, seq_len=seq_len, model=checkpointed):
                return f"set activation_checkpointing: true, device_train_microbatch_size: 1 and max_seq_len: {seq_len}"
        if self._config.model.peft_config is None:
            return "train an adapter (model.peft_config), or a smaller model"
        return "take a smaller model"
