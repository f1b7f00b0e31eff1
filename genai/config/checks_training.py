"""What in any training job contradicts itself or has no effect, as far as the job file alone tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from genai.config.durations import Duration
from genai.config.findings import Finding, fault, no_effect
from genai.config.training import (
    FSDP_WITHOUT_EFFECT,
    CausalTrainingConfig,
    ConstantConfig,
    FsdpConfig,
    LossSpikeConfig,
    TrainingJobConfig,
    WSDConfig,
)


def _microbatch(config: TrainingJobConfig) -> Iterator[Finding]:
    micro, whole = config.device_train_microbatch_size, config.global_train_batch_size
    if isinstance(micro, int) and micro > whole:
        message = f"device_train_microbatch_size of {micro} is more than global_train_batch_size of {whole}"
        yield fault("device_train_microbatch_size", message, f"write {whole} or less, or auto")


def _even_microbatches(config: CausalTrainingConfig) -> Iterator[Finding]:
    micro, whole = config.device_train_microbatch_size, config.global_train_batch_size
    if isinstance(micro, int) and micro < whole and whole % micro:
        message = f"global_train_batch_size of {whole} cannot be divided into microbatches of {micro}"
        divisor = max(size for size in range(1, micro) if whole % size == 0)
        yield fault("device_train_microbatch_size", message, f"write {divisor}, or auto")


def _durations(config: TrainingJobConfig) -> Iterator[Finding]:
    whole, scheduler = Duration.parse(config.max_duration), config.scheduler
    parts = {"t_warmup": scheduler.t_warmup}
    if isinstance(scheduler, WSDConfig):
        parts["t_decay"] = scheduler.t_decay
    elif not isinstance(scheduler, ConstantConfig):
        parts["t_max"] = scheduler.t_max
    if whole.unit == "dur":
        yield fault("max_duration", "max_duration cannot be a share of itself", "write for example 3ep")
        return
    for name, text in parts.items():
        part = Duration.parse(text)
        if name != "t_max" and part.unit == whole.unit and part.value > whole.value:
            message = f"scheduler.{name} of {text} is longer than max_duration of {config.max_duration}"
            yield fault(f"scheduler.{name}", message, "a share of the whole is written 0.05dur")
    if "t_max" in parts and Duration.parse(parts["t_max"]).value == 0:
        yield fault("scheduler.t_max", "scheduler.t_max must be longer than zero", "write 1dur, or leave it out")


def _saving(config: TrainingJobConfig) -> Iterator[Finding]:
    if config.save_folder and "{run_name}" in config.save_folder.replace("${run_name}", ""):
        message = "save_folder holds a placeholder of Composer's"
        yield fault("save_folder", message, "leave it out: checkpoints go to the run's own directory")
    if not config.autoresume and config.resume == "exact":
        yield no_effect("resume", "autoresume is false")


def _callbacks(config: TrainingJobConfig) -> Iterator[Finding]:
    spike = config.callbacks.loss_spike
    if spike is not None and spike.threshold <= 1:
        message = f"a threshold of {spike.threshold:g} times the median calls every second batch a spike"
        yield fault("callbacks.loss_spike.threshold", message, f"write {LossSpikeConfig().threshold:g}")


def _fsdp(config: CausalTrainingConfig) -> Iterator[Finding]:
    fsdp = config.fsdp_config
    if fsdp is None:
        return
    for name in FSDP_WITHOUT_EFFECT:
        if getattr(fsdp, name) != getattr(FsdpConfig(), name):
            yield no_effect(f"fsdp_config.{name}", "FSDP2 decides it for itself")
    if config.parallel.strategy == "fsdp2" and fsdp.sharding_strategy == "NO_SHARD":
        message = "parallel.strategy is fsdp2, but fsdp_config.sharding_strategy is NO_SHARD"
        yield fault("parallel.strategy", message, "set one of them: ddp, or FULL_SHARD")


def _icl_tasks(config: CausalTrainingConfig) -> Iterator[Finding]:
    for number, task in enumerate(config.icl_tasks):
        if task.icl_task_type in ("generation_task_with_answers", "question_answering"):
            message = f"task {task.label} wants answers, and training measures likelihoods only"
            yield fault(f"icl_tasks.{number}.icl_task_type", message, "measure it on the finished model: genai eval")
        if task.metric_names == []:
            yield fault(f"icl_tasks.{number}.metric_names", "nothing is measured", "leave it out")


TRAINING_CHECKS: tuple[Callable[[TrainingJobConfig], Iterator[Finding]], ...] = (
    _microbatch,
    _durations,
    _saving,
    _callbacks,
)
"""What every training job is held against."""
CAUSAL_CHECKS: tuple[Callable[[CausalTrainingConfig], Iterator[Finding]], ...] = (
    *TRAINING_CHECKS,
    _even_microbatches,
    _fsdp,
    _icl_tasks,
)
"""What the jobs that train causal language models are held against."""
