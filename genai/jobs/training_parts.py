"""What every training job builds around its model and its stream: device, checkpoints, trainer. Imports torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from genai.config.durations import Duration
from genai.config.loading import Loaded
from genai.config.secrets import resolve
from genai.config.training import CausalTrainingConfig, TrainingJobConfig
from genai.jobs.problems import at
from genai.jobs.training_inputs import warm_start_weights
from genai.tracking.environment import collect_environment
from genai.tracking.run import RunDirectory
from genai.training.activation_checkpointing import checkpoint_activations
from genai.training.allocator import NUM_KERNELS, keep_few_kernels, keep_freed_memory
from genai.training.callbacks import Callback, FlopsModel, build_callbacks
from genai.training.checkpoints import Checkpoints, Layout, load_parameters
from genai.training.interfaces import BatchLoss, CountedBatch, ModelLoss, TrainedLoss, TrainStream
from genai.training.optimizers import build_optimizer
from genai.training.parallel.parallelize import layout_of, parallelize
from genai.training.parallel.ranks import Ranks
from genai.training.parallel.strategy import OneRank, Strategy
from genai.training.parallel.whole_batch import share_whole_batches
from genai.training.plan.steps import StepPlan
from genai.training.precision import prepare_model
from genai.training.random_state import seed_rank
from genai.training.schedules import build_schedule
from genai.training.threads import usable_threads
from genai.training.throughput import flops_per_token, peak_flops
from genai.training.trainer import MetricSink, Settings, Trainer


def choose_device(
    config: TrainingJobConfig, ranks: Ranks | None = None, *, num_kernels: int = NUM_KERNELS
) -> torch.device:
    """Where to train; sets the number of CPU threads and the determinism of kernels.

    Args:
        config: the job.
        ranks: has a device for each rank; None for one process.
        num_kernels: how many compiled kernels are kept on a CPU.
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
    keep_few_kernels(num_kernels)
    return torch.device("cpu")


def finish_loading(
    loaded: Loaded[Any], model: nn.Module, device: torch.device, *, activation_checkpointing: bool = False
) -> None:
    """What is done to every model once it has its weights and adapter: number formats, warm start, recomputation.

    Args:
        loaded: the job file.
        model: trained parameters are held in float32 from here on, frozen ones as `precision` says.
        device: where it lies.
        activation_checkpointing: keep only the inputs of each decoder block.

    Raises:
        ConfigError: `load_path` or `activation_checkpointing` does not fit the model, with file:line:column.
    """
    config = loaded.config
    prepare_model(model, config.precision)
    if device.type == "cpu":
        keep_freed_memory()
    warm_start(loaded, model)
    if activation_checkpointing:
        with at(loaded, "activation_checkpointing"):
            checkpoint_activations(model)


def warm_start(loaded: Loaded[Any], model: nn.Module) -> None:
    """Take the trained weights from the job's `load_path`, where it has one.

    Raises:
        ConfigError: they do not fit the model, with file:line:column.
    """
    config = loaded.config
    if config.load_path is not None:
        with at(loaded, "load_path"):
            load_parameters(model, warm_start_weights(config.load_path, config.runs_dir))


def share_work(config: CausalTrainingConfig, model_loss: ModelLoss, ranks: Ranks) -> OneRank:
    """The loss as the ranks compute it together. Weights may be sharded from here on: prove and measure things
    before.
    """
    seed_rank(config.seed, ranks.data_rank)
    return parallelize(
        model_loss, ranks, parallel=config.parallel, fsdp=config.fsdp_config, bf16=config.precision == "amp_bf16"
    )


def share_batches(config: TrainingJobConfig, loss: BatchLoss, ranks: Ranks) -> Strategy:
    """`share_work` for a loss over whole batches; every rank holds the whole model."""
    seed_rank(config.seed, ranks.data_rank)
    return share_whole_batches(loss, ranks)


def context_of(
    config: TrainingJobConfig, device: torch.device, ranks: Ranks | None = None, **fingerprints: str
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
    config: TrainingJobConfig,
    directory: RunDirectory,
    context: Mapping[str, Any],
    ranks: Ranks,
    *,
    layout: Layout = "whole",
    in_background: bool = False,
) -> Checkpoints:
    """The run's checkpoints, in save_folder where one is given.

    Args:
        config: the job.
        directory: of the run.
        context: what they are made with, see `context_of`.
        ranks: who takes part.
        layout: `sharded` where the weights are.
        in_background: go on training while one is written.
    """
    return Checkpoints(
        config.save_folder or str(directory.checkpoints),
        keep=config.save_num_checkpoints_to_keep,
        context=context,
        ranks=ranks,
        layout=layout,
        in_background=in_background,
    )


def open_causal_checkpoints(
    config: CausalTrainingConfig, directory: RunDirectory, context: Mapping[str, Any], ranks: Ranks
) -> Checkpoints:
    """`open_checkpoints` for weights that may be sharded."""
    return open_checkpoints(
        config,
        directory,
        context,
        ranks,
        layout=layout_of(config.parallel, config.fsdp_config, ranks),
        in_background=config.parallel.save_in_background,
    )


def make_trainer(
    config: TrainingJobConfig,
    parallel: Strategy,
    *,
    stream: TrainStream,
    steps: StepPlan,
    eval_batches: Callable[[], Iterable[CountedBatch]] | None,
    microbatch_size: int,
    checkpoints: Checkpoints,
    metrics: MetricSink,
    run_name: str,
    seq_len: int | None = None,
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
        seq_len: tokens a row, for the operations of a step; None where rows differ: then no utilisation is told.
        name_row: names a row to the user, by its id.
        more_callbacks: what the job watches itself.
    """
    model_loss = parallel.model_loss
    device = model_loss.device
    clipping = config.algorithms.gradient_clipping
    duration = Duration.parse(config.max_duration)
    return Trainer(
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
                flops=_flops(model_loss, seq_len, parallel.ranks.world_size),
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


def _flops(model_loss: TrainedLoss, seq_len: int | None, world_size: int) -> FlopsModel | None:
    """What utilisation is computed from; None where the device's peak or the length of a row is not known."""
    peak = peak_flops(model_loss.device)
    if peak is None or seq_len is None:
        return None
    per_token = flops_per_token(model_loss.model, seq_len)
    return FlopsModel(flops_per_token=per_token, peak_flops=peak * world_size)


def _webhook_url(config: TrainingJobConfig) -> str | None:
    webhook = config.callbacks.webhook
    return None if webhook is None else resolve(webhook.url)
