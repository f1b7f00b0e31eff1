"""What every training job builds around its model and its stream: device, checkpoints, trainer. Imports torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from genai.config.checks_training import TrainingConfig
from genai.config.durations import Duration
from genai.config.loading import Loaded
from genai.config.secrets import resolve
from genai.data.batches import Batch
from genai.jobs.problems import at
from genai.jobs.training_inputs import warm_start_weights
from genai.tracking.environment import collect_environment
from genai.tracking.run import RunDirectory
from genai.training.activation_checkpointing import checkpoint_activations
from genai.training.allocator import keep_few_kernels, keep_freed_memory
from genai.training.callbacks import Callback, FlopsModel, build_callbacks
from genai.training.checkpoints import Checkpoints, load_parameters
from genai.training.interfaces import ModelLoss, TrainStream
from genai.training.optimizers import build_optimizer
from genai.training.parallel.parallelize import layout_of, parallelize
from genai.training.parallel.ranks import Ranks
from genai.training.parallel.strategy import OneRank
from genai.training.plan.steps import StepPlan
from genai.training.precision import prepare_model
from genai.training.random_state import seed_rank
from genai.training.schedules import build_schedule
from genai.training.threads import usable_threads
from genai.training.throughput import flops_per_token, peak_flops
from genai.training.trainer import MetricSink, Settings, Trainer


def choose_device(config: TrainingConfig, ranks: Ranks | None = None) -> torch.device:
    """Where to train; sets the number of CPU threads and the determinism of kernels.

    Args:
        config: the job.
        ranks: has a device for each rank; None for one process.
    """
    torch.set_num_threads(config.num_threads or usable_threads(processes=ranks.local_world_size if ranks else 1))
    if config.deterministic_mode != torch.are_deterministic_algorithms_enabled():
        # The call imports the compiler, which costs more than a second.
        torch.use_deterministic_algorithms(config.deterministic_mode)
    if ranks is not None and ranks.device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        return ranks.device
    if ranks is None and (config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())):
        torch.backends.cuda.matmul.allow_tf32 = True
        return torch.device("cuda")
    keep_few_kernels()
    return torch.device("cpu")


def finish_loading(loaded: Loaded[Any], model: nn.Module, device: torch.device) -> None:
    """What is done to every model once it has its weights and adapter: number formats, warm start, recomputation.

    Raises:
        ConfigError: `load_path` or `activation_checkpointing` does not fit the model, with file:line:column.
    """
    config = loaded.config
    prepare_model(model, config.precision)
    if device.type == "cpu":
        keep_freed_memory()
    if config.load_path is not None:
        with at(loaded, "load_path"):
            load_parameters(model, warm_start_weights(config.load_path, config.runs_dir))
    if config.activation_checkpointing:
        with at(loaded, "activation_checkpointing"):
            checkpoint_activations(model)


def share_work(config: TrainingConfig, model_loss: ModelLoss, ranks: Ranks) -> OneRank:
    """The loss as the ranks compute it together. Weights may be sharded from here on: prove and measure things
    before.
    """
    seed_rank(config.seed, ranks.data_rank)
    return parallelize(
        model_loss, ranks, parallel=config.parallel, fsdp=config.fsdp_config, bf16=config.precision == "amp_bf16"
    )


def context_of(
    config: TrainingConfig, device: torch.device, ranks: Ranks | None = None, **fingerprints: str
) -> dict[str, Any]:
    """What a checkpoint is made with; compared at a resume by `genai.training.resume.compare`."""
    environment = collect_environment()
    values = {
        **asdict(config),
        "environment": {
            "torch": torch.__version__,
            "transformers": environment["packages"].get("transformers"),
            "cpu": environment["cpu"],
            "num_threads": torch.get_num_threads(),
            "device": device.type,
            "num_ranks": 1 if ranks is None else ranks.world_size,
        },
        **fingerprints,
    }
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def open_checkpoints(
    config: TrainingConfig, directory: RunDirectory, context: Mapping[str, Any], ranks: Ranks
) -> Checkpoints:
    """The run's checkpoints, in save_folder where one is given; sharded where the weights are."""
    return Checkpoints(
        config.save_folder or str(directory.checkpoints),
        keep=config.save_num_checkpoints_to_keep,
        context=context,
        ranks=ranks,
        layout=layout_of(config.parallel, config.fsdp_config, ranks),
        in_background=config.parallel.save_in_background,
    )


def make_trainer(
    config: TrainingConfig,
    parallel: OneRank,
    *,
    stream: TrainStream,
    steps: StepPlan,
    eval_batches: Callable[[], Iterable[Batch]] | None,
    microbatch_size: int,
    checkpoints: Checkpoints,
    metrics: MetricSink,
    run_name: str,
    name_row: Callable[[int], str] = str,
    more_callbacks: Sequence[Callback] = (),
) -> Trainer:
    """The trainer with all its parts, at the beginning of the run.

    Args:
        config: the job.
        parallel: the loss and the ranks that share the work.
        stream: training batches of this rank.
        steps: length of the run.
        eval_batches: makes a pass over this rank's evaluation rows; None where there are none.
        microbatch_size: rows of a forward pass.
        checkpoints: where state is saved.
        metrics: where numbers go.
        run_name: told to the webhook.
        name_row: names a row to the user, by its id.
        more_callbacks: what the job watches itself.
    """
    model_loss: ModelLoss = parallel.model_loss
    device = model_loss.device
    clipping = config.algorithms.gradient_clipping
    duration = Duration.parse(config.max_duration)
    return Trainer(
        model_loss=model_loss,
        optimizer=build_optimizer(config.optimizer, model_loss.model, device=device),
        schedule=build_schedule(
            config.scheduler,
            max_duration=duration,
            batches_per_epoch=steps.batches_per_epoch,
            tokens_per_batch=steps.tokens_per_batch,
            samples_per_batch=steps.samples_per_batch,
        ),
        stream=stream,
        eval_batches=eval_batches,
        callbacks=[
            *more_callbacks,
            *build_callbacks(
                config.callbacks,
                run_name=run_name,
                total_batches=steps.batches,
                name_row=name_row,
                plugins=config.callbacks.plugins,
                flops=_flops(model_loss, config.max_seq_len, parallel.ranks.world_size),
                webhook_url=_webhook_url(config),
                device_peak_bytes=torch.cuda.max_memory_allocated if device.type == "cuda" else None,
                is_main=parallel.ranks.is_main,
                num_devices=parallel.ranks.world_size,
            ),
        ],
        checkpoints=checkpoints,
        metrics=metrics,
        settings=Settings(
            max_duration=duration,
            eval_interval=Duration.parse(config.eval_interval),
            save_interval=Duration.parse(config.save_interval),
            total_batches=steps.batches,
            microbatch_size=microbatch_size,
            clipping_type=None if clipping is None else clipping.clipping_type,
            clipping_threshold=1.0 if clipping is None else clipping.clipping_threshold,
        ),
        parallel=parallel,
    )


def _flops(model_loss: ModelLoss, seq_len: int, world_size: int) -> FlopsModel | None:
    """What utilisation is computed from; None where the device's peak is not known."""
    peak = peak_flops(model_loss.device)
    if peak is None:
        return None
    per_token = flops_per_token(model_loss.model, seq_len)
    return FlopsModel(flops_per_token=per_token, peak_flops=peak * world_size)


def _webhook_url(config: TrainingConfig) -> str | None:
    webhook = config.callbacks.webhook
    return None if webhook is None else resolve(webhook.url)
