"""Rows of a forward pass: as many as the device works well with, and no more than fit."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import nn

from genai.config.finetune import FinetuneConfig
from genai.errors import UsageError
from genai.log import get_logger
from genai.training.plan.limits import available_bytes
from genai.training.plan.memory import UnpredictableError, predict

_log = get_logger(__name__)

_GOOD_TOKENS = {"cpu": 1024, "cuda": 32768}
"""Tokens of a forward pass beyond which a device gets no faster: on a CPU larger passes only take more memory."""
_COMFORTABLE = 0.8
"""Share of the available memory that `auto` takes; a prediction may be off by the rest, and others live on the
machine too."""
_SEQ_LEN_STEPS = 16
"""A shorter max_seq_len is proposed in sixteenths of the job's."""


def choose_microbatch(
    meta_model: nn.Module,
    config: FinetuneConfig,
    *,
    seq_len: int,
    device: torch.device,
    mean_row_tokens: float | None = None,
    memory_bytes: int | None = None,
) -> int:
    """Rows of a forward pass for `device_train_microbatch_size: auto`.

    Args:
        meta_model: the plain model on the meta device.
        config: the job.
        seq_len: longest row in tokens.
        device: where it will run.
        mean_row_tokens: mean length of a row; by default all are as long as the longest.
        memory_bytes: what there is; by default what is free now.

    Raises:
        UsageError: not even one row fits; says what would.
    """
    fit = _Fit(meta_model, config, seq_len, device, memory_bytes)
    wanted = round(_GOOD_TOKENS[device.type] / (mean_row_tokens or seq_len))
    wanted = min(max(1, wanted), config.global_train_batch_size)
    try:
        for rows in _halves(wanted):
            if fit.share(rows) <= _COMFORTABLE:
                return rows
        if fit.share(1) > 1:
            raise fit.refusal(1)
    except UnpredictableError as error:
        _log.warning("%s", error)
        return wanted if device.type == "cuda" else 1
    _log.warning("memory will be short: one row needs %.0f %% of what is free", 100 * fit.share(1))
    return 1


def check_fits(
    meta_model: nn.Module,
    config: FinetuneConfig,
    *,
    microbatch_size: int,
    seq_len: int,
    device: torch.device,
    memory_bytes: int | None = None,
) -> None:
    """Hold a microbatch that the user chose against the memory, before anything is loaded; arguments as above.

    Raises:
        UsageError: it cannot fit; says what the largest setting is that does.
    """
    fit = _Fit(meta_model, config, seq_len, device, memory_bytes)
    try:
        if fit.share(microbatch_size) > 1:
            raise fit.refusal(microbatch_size)
    except UnpredictableError as error:
        _log.warning("%s", error)


def _halves(number: int) -> Iterator[int]:
    while number > 1:
        yield number
        number = -(-number // 2)
    yield 1


class _Fit:
    """Predictions for one job, held against the memory that is free."""

    def __init__(
        self,
        meta_model: nn.Module,
        config: FinetuneConfig,
        seq_len: int,
        device: torch.device,
        memory_bytes: int | None,
    ) -> None:
        self._meta_model = meta_model
        self._config = config
        self._seq_len = seq_len
        self._device = device
        self._available_bytes = available_bytes(device) if memory_bytes is None else memory_bytes
        self._known: dict[tuple[int, int, bool], int] = {}

    def needed_bytes(self, rows: int, *, seq_len: int | None = None, checkpointing: bool | None = None) -> int:
        """The predicted peak with some settings changed."""
        length = seq_len or self._seq_len
        checkpointing = self._config.activation_checkpointing if checkpointing is None else checkpointing
        key = (rows, length, checkpointing)
        if key not in self._known:
            config = replace(self._config, activation_checkpointing=checkpointing)
            plan = predict(self._meta_model, config, microbatch_size=rows, seq_len=length, device=self._device)
            self._known[key] = plan.total_bytes
        return self._known[key]

    def share(self, rows: int, *, seq_len: int | None = None, checkpointing: bool | None = None) -> float:
        """Needed memory over free memory."""
        return self.needed_bytes(rows, seq_len=seq_len, checkpointing=checkpointing) / max(1, self._available_bytes)

    def refusal(self, rows: int) -> UsageError:
        """Why `rows` cannot be, and what can."""
        return UsageError(
            f"{rows} x {self._seq_len} tokens need about {self.needed_bytes(rows) / 2**30:.1f} GiB of memory, and "
            f"{self._available_bytes / 2**30:.1f} GiB are free",
            where="device_train_microbatch_size",
            fix=self._largest_that_fits(rows),
        )

    def _largest_that_fits(self, rows: int) -> str:
        fewer = _largest(range(1, rows), lambda count: self.share(count) <= 1)
        if fewer:
            return f"set device_train_microbatch_size: {fewer}"
        if self.share(1, checkpointing=True) <= 1:
            return "set activation_checkpointing: true and device_train_microbatch_size: 1"
        lengths = range(max(1, self._seq_len // _SEQ_LEN_STEPS), self._seq_len, max(1, self._seq_len // _SEQ_LEN_STEPS))
        shorter = _largest(lengths, lambda length: self.share(1, seq_len=length, checkpointing=True) <= 1)
        if shorter:
            return f"set activation_checkpointing: true, device_train_microbatch_size: 1 and max_seq_len: {shorter}"
        if self._config.model.peft_config is None and self._config.model.adapter is None:
            return "train an adapter (model.peft_config), or take a smaller model"
        return "take a smaller model"


def _largest(candidates: range, fits: Callable[[int], bool]) -> int | None:
    """The largest candidate that fits, where all smaller ones do as well."""
    count = bisect_left(candidates, True, key=lambda each: not fits(each))
    return candidates[count - 1] if count else None
