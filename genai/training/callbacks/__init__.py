"""What watches the training, one callback a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from genai.config.training import CallbacksConfig
from genai.errors import UsageError
from genai.registry import Registry
from genai.training.callbacks.base import Callback, EvalInfo, StepInfo, StopTraining
from genai.training.callbacks.memory_monitor import MemoryMonitor
from genai.training.callbacks.progress import Progress
from genai.training.callbacks.speed_monitor import FlopsModel, SpeedMonitor

__all__ = ["CALLBACKS", "Callback", "EvalInfo", "FlopsModel", "StepInfo", "StopTraining", "build_callbacks"]

CALLBACKS: Registry[Callable[..., Callback]] = Registry(
    "callback",
    {
        "early_stopping": "genai.training.callbacks.early_stopping:EarlyStopping",
        "loss_spike": "genai.training.callbacks.loss_spike:LossSpike",
        "nan_guard": "genai.training.callbacks.nan_guard:NaNGuard",
        "webhook": "genai.training.callbacks.webhook:Webhook",
    },
    group="genai.callbacks",
)
"""Callbacks that a job file can name; a plugin's entry point is a callable that takes its settings as keywords."""


def build_callbacks(
    cfg: CallbacksConfig,
    *,
    run_name: str,
    total_batches: int | None,
    name_row: Callable[[int], str] = str,
    webhook_url: str | None = None,
    flops: FlopsModel | None = None,
    device_peak_bytes: Callable[[], int] | None = None,
    plugins: Mapping[str, Mapping[str, Any]] | None = None,
    is_main: bool = True,
    num_devices: int = 1,
) -> list[Callback]:
    """The callbacks of a job in the order in which they are asked: guards first, the webhook last.

    Args:
        cfg: which guards, with their settings; speed, memory and progress are always there.
        run_name: told to the webhook.
        total_batches: length of the training for the progress bar, None where it is unknown.
        name_row: index of an example -> how to name it to the user, such as `path:line`.
        webhook_url: the webhook's URL with its reference resolved; needed when `cfg.webhook` is set.
        flops: for the model FLOPs utilisation, where it can be computed.
        device_peak_bytes: reads the accelerator's peak memory, None on a CPU.
        plugins: name of a registered callback -> its settings.
        is_main: whether this is the rank that talks; the others have neither progress nor webhook.
        num_devices: how many train together.

    Raises:
        UsageError: a plugin is unknown or does not take its settings.
    """
    callbacks: list[Callback] = [CALLBACKS.get("nan_guard")(**asdict(cfg.nan_guard), name_row=name_row)]
    if cfg.loss_spike is not None:
        callbacks.append(CALLBACKS.get("loss_spike")(**asdict(cfg.loss_spike)))
    if cfg.early_stopping is not None:
        callbacks.append(CALLBACKS.get("early_stopping")(**asdict(cfg.early_stopping)))
    speed, memory = (
        SpeedMonitor(flops=flops, num_devices=num_devices),
        MemoryMonitor(device_peak_bytes=device_peak_bytes),
    )
    callbacks += [speed, memory]
    if is_main:
        callbacks.append(Progress(total_batches=total_batches, speed=speed, memory=memory))
    callbacks += [_build_plugin(name, settings) for name, settings in (plugins or {}).items()]
    if cfg.webhook is not None and is_main:
        if webhook_url is None:
            raise ValueError("callbacks.webhook is set, but its URL was not resolved")
        callbacks.append(CALLBACKS.get("webhook")(url=webhook_url, timeout_s=cfg.webhook.timeout_s, run_name=run_name))
    return callbacks


def _build_plugin(name: str, settings: Mapping[str, Any]) -> Callback:
    build = CALLBACKS.get(name)
    try:
        return build(**settings)
    except TypeError as error:
        raise UsageError(f"callback '{name}' does not take its settings: {error}", where=f"callbacks.{name}") from error
