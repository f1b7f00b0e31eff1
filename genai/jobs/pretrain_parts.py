"""Builds what pretraining needs from the job file: tokenizer, model, token streams, trainer. Imports torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from genai.config.durations import Duration
from genai.config.finetune import FinetuneConfig, FinetuningDatasetConfig, FinetuningLoaderConfig, HFCausalLMConfig
from genai.config.loading import Loaded
from genai.config.pretrain import HFModelConfig, LlamaModelConfig, MPTModelConfig, PretrainConfig
from genai.data.batches import Batch
from genai.data.token_streams import TokenStream, token_eval_batches
from genai.errors import ConfigError, GenaiError
from genai.jobs import training_parts
from genai.jobs.pretrain_inputs import PretrainInputs, Shards, cache_limit_bytes
from genai.jobs.pretrain_model import Architecture, describe
from genai.jobs.pretrain_stream import CheckedStream
from genai.jobs.problems import at
from genai.jobs.training_icl import icl_callbacks
from genai.log import get_logger
from genai.models.tokenizers import open_tokenizer
from genai.tracking.run import RunDirectory
from genai.training.callbacks.base import Callback, EvalInfo
from genai.training.checkpoints import Checkpoints
from genai.training.compiling import compile_blocks
from genai.training.parallel.parallelize import place_of
from genai.training.parallel.ranks import Ranks
from genai.training.parallel.strategy import OneRank
from genai.training.plan.microbatch import check_fits, choose_microbatch
from genai.training.plan.steps import StepPlan, count_steps
from genai.training.proofs.probe import ProvableLoss
from genai.training.trainer import MetricSink, Trainer

_log = get_logger(__name__)
_SAMPLE_ROWS = 64
"""Rows of the first shard that are held against the vocabulary."""


@dataclass(kw_only=True)
class Parts:
    """The heavy objects of a job, each built once."""

    config: PretrainConfig
    ranks: Ranks
    inputs: PretrainInputs
    tokenizer: PreTrainedTokenizerFast
    architecture: Architecture
    model_loss: ProvableLoss
    """The whole model on this rank; the trainer's own one may be sharded."""
    stream: TokenStream
    steps: StepPlan
    microbatch_size: int

    @property
    def device(self) -> torch.device:
        """Where this rank computes."""
        return self.ranks.device

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        return self.model_loss.model

    @property
    def fingerprints(self) -> dict[str, Any]:
        """What identifies the inputs: the model, the shards."""
        evaluation = self.inputs.evaluation
        return {
            "model": {"reference": self.architecture.name, "fingerprint": self.architecture.fingerprint},
            "train": _identify(self.inputs.train),
            "eval": None if evaluation is None else _identify(evaluation),
        }

    @property
    def eval_batch_size(self) -> int:
        """Rows a forward pass of this rank in evaluation."""
        wanted = self.config.device_eval_batch_size
        return self.microbatch_size if wanted == "auto" else wanted

    def eval_batches(self) -> Iterator[Batch]:
        """A fresh pass of this rank over the held-out stream."""
        loader, evaluation = self.config.eval_loader, self.inputs.evaluation
        assert loader is not None and evaluation is not None
        return token_eval_batches(
            evaluation.specs,
            seq_len=self.config.max_seq_len,
            batch_size=self.eval_batch_size * self.ranks.data_world_size,
            cache_dir=self.inputs.cache_dir,
            num_batches=self.config.eval_subset_num_batches,
            rank=self.ranks.data_rank,
            world_size=self.ranks.data_world_size,
            cache_limit_bytes=cache_limit_bytes(loader.dataset),
            validate_hash=loader.dataset.validate_hash,
        )


class Perplexity(Callback):
    """Logs e to the power of the held-out loss beside it."""

    def eval_end(self, info: EvalInfo) -> Mapping[str, float]:
        """The perplexity; infinite where a float cannot hold it."""
        return {"perplexity/eval": perplexity(info.loss)}


def perplexity(loss: float) -> float:
    """e to the power of a loss in nats a token."""
    return math.exp(loss) if loss < 700 else math.inf


def build_parts(
    loaded: Loaded[PretrainConfig], inputs: PretrainInputs, ranks: Ranks | None = None, *, share: int | None = None
) -> Parts:
    """Make the tokenizer, the model and the stream.

    Args:
        loaded: the job file.
        inputs: its streams.
        ranks: who trains; None for one process.
        share: how many ranks shall share a batch; by default those that there are.

    Raises:
        ConfigError: model, tokenizer and shards do not go together, with file:line:column.
    """
    config = loaded.config
    device = training_parts.choose_device(config, ranks)
    ranks = place_of(ranks or Ranks(device=device), config.parallel, config.fsdp_config)
    torch.manual_seed(config.seed)
    tokenizer = tokenizer_of(loaded)
    with ranks.main_first():
        architecture = describe(loaded, num_tokens=len(tokenizer))
        _check_vocabulary(loaded, inputs, tokenizer, architecture)
    _check_length(loaded, architecture)
    with at(loaded, "train_loader.dataset"):
        stream = _open_stream(config, inputs, ranks, vocab_size=len(tokenizer))
    microbatch_size = _microbatch_size(config, architecture, ranks.device, share or ranks.data_world_size)
    model_loss = _build_model(loaded, architecture, ranks.device)
    return Parts(
        config=config,
        ranks=ranks,
        inputs=inputs,
        tokenizer=tokenizer,
        architecture=architecture,
        model_loss=model_loss,
        stream=stream,
        steps=_count_steps(config, stream),
        microbatch_size=microbatch_size,
    )


def planned(config: PretrainConfig, num_ranks: int) -> FinetuneConfig:
    """The job as the memory plan knows jobs: one rank's share of it, whose rows are all full."""
    match config.model:
        case HFModelConfig() as model:
            pretrained, attention = model.pretrained, model.attn_implementation
        case MPTModelConfig():
            pretrained, attention = False, "eager"
        case LlamaModelConfig() as model:
            pretrained, attention = model.pretrained_model_name_or_path is not None, "sdpa"
    return FinetuneConfig(
        model=HFCausalLMConfig(pretrained_model_name_or_path="", pretrained=pretrained, attn_implementation=attention),
        train_loader=FinetuningLoaderConfig(dataset=FinetuningDatasetConfig()),
        max_seq_len=config.max_seq_len,
        optimizer=config.optimizer,
        precision=config.precision,
        activation_checkpointing=_recomputes(config),
        global_train_batch_size=max(1, config.global_train_batch_size // num_ranks),
        device_train_microbatch_size=config.device_train_microbatch_size,
    )


def _recomputes(config: PretrainConfig) -> bool:
    fsdp = config.fsdp_config
    return config.activation_checkpointing or (fsdp is not None and fsdp.activation_checkpointing)


def _identify(shards: Shards) -> dict[str, Any]:
    return {
        "streams": shards.described,
        "samples": shards.num_samples,
        "bytes": shards.size_bytes,
        "fingerprint": shards.fingerprint,
    }


def tokenizer_of(loaded: Loaded[PretrainConfig]) -> PreTrainedTokenizerFast:
    """The tokenizer that the job names, or its pretrained model's."""
    config = loaded.config
    key = "tokenizer.name" if config.tokenizer.name is not None else "model.pretrained_model_name_or_path"
    reference = config.tokenizer.name or str(getattr(config.model, "pretrained_model_name_or_path", ""))
    with at(loaded, key):
        return open_tokenizer(reference, runs_dir=config.runs_dir, kwargs=config.tokenizer.kwargs)


def _check_vocabulary(
    loaded: Loaded[PretrainConfig],
    inputs: PretrainInputs,
    tokenizer: PreTrainedTokenizerFast,
    architecture: Architecture,
) -> None:
    """Hold the largest token of a sample of each loader against the tokenizer and the model."""
    rows = architecture.vocab_size
    if len(tokenizer) > rows:
        message = f"the model has {rows} rows in its embedding, and the tokenizer {len(tokenizer)} tokens"
        raise ConfigError([loaded.problem(_vocabulary_key(loaded.config), message, _vocabulary_fix(loaded, tokenizer))])
    for loader, shards in (("train_loader", inputs.train), ("eval_loader", inputs.evaluation)):
        if shards is None:
            continue
        largest = _largest_token(loaded, f"{loader}.dataset", shards, inputs)
        if largest >= len(tokenizer):
            message = f"the shards of {loader} hold token {largest}, and the tokenizer has {len(tokenizer)} tokens"
            fix = "name the tokenizer that they were written with"
            raise ConfigError([loaded.problem("tokenizer.name", message, fix)])


def _vocabulary_key(config: PretrainConfig) -> str:
    return "model.config_overrides" if isinstance(config.model, HFModelConfig) else "model.vocab_size"


def _vocabulary_fix(loaded: Loaded[PretrainConfig], tokenizer: PreTrainedTokenizerFast) -> str:
    model = loaded.config.model
    if not isinstance(model, HFModelConfig):
        return f"write vocab_size: {len(tokenizer)} or more"
    if model.pretrained:
        return "choose the tokenizer of this model"
    return f"write config_overrides: {{vocab_size: {len(tokenizer)}}}"


def _largest_token(loaded: Loaded[PretrainConfig], key: str, shards: Shards, inputs: PretrainInputs) -> int:
    with at(loaded, key):
        batches = token_eval_batches(
            shards.specs,
            seq_len=loaded.config.max_seq_len,
            batch_size=_SAMPLE_ROWS,
            cache_dir=inputs.cache_dir,
            num_batches=1,
        )
        return max(int(batch.input_ids.max()) for batch in batches)


def _check_length(loaded: Loaded[PretrainConfig], architecture: Architecture) -> None:
    """A model with learned positions has no position behind its last one."""
    described = architecture.meta.config.get_text_config()
    longest = getattr(described, "max_position_embeddings", None)
    wanted = loaded.config.max_seq_len
    if longest is None or wanted <= longest:
        return
    if getattr(described, "rope_parameters", None) is None and getattr(described, "rope_theta", None) is None:
        message = f"max_seq_len of {wanted} is more than the {longest} positions of the model"
        fix = f"write {longest}, or model.config_overrides: {{max_position_embeddings: {wanted}}}"
        raise ConfigError([loaded.problem("max_seq_len", message, fix)])
    _log.warning("max_seq_len of %d is more than the %d positions that the model names", wanted, longest)


def _open_stream(config: PretrainConfig, inputs: PretrainInputs, ranks: Ranks, *, vocab_size: int) -> TokenStream:
    dataset, shards = config.train_loader.dataset, inputs.train
    ahead = {}
    if dataset.predownload is not None:
        ahead["predownload_shards"] = math.ceil(dataset.predownload * shards.num_shards / shards.num_samples)
    return CheckedStream(
        shards.specs,
        vocab_size=vocab_size,
        seq_len=config.max_seq_len,
        global_batch_size=config.global_train_batch_size,
        seed=config.seed if dataset.shuffle_seed is None else dataset.shuffle_seed,
        shuffle=dataset.shuffle,
        shuffle_algo=dataset.shuffle_algo,
        shuffle_block_size=dataset.shuffle_block_size,
        drop_last=config.train_loader.drop_last,
        epoch_size=dataset.epoch_size,
        rank=ranks.data_rank,
        world_size=ranks.data_world_size,
        cache_dir=inputs.cache_dir,
        cache_limit_bytes=cache_limit_bytes(dataset),
        validate_hash=dataset.validate_hash,
        **ahead,
    )


def _count_steps(config: PretrainConfig, stream: TokenStream) -> StepPlan:
    rows = stream.num_samples
    if config.train_loader.drop_last and rows > config.global_train_batch_size:
        rows = stream.batches_in_epoch(0) * config.global_train_batch_size
    return count_steps(stream, Duration.parse(config.max_duration), num_rows=rows, num_tokens=rows * config.max_seq_len)


def _microbatch_size(config: PretrainConfig, architecture: Architecture, device: torch.device, num_ranks: int) -> int:
    """What the job file says, or for `auto` what fits; a GPU refuses what cannot fit, on a CPU that is a warning."""
    job, seq_len = planned(config, num_ranks), config.max_seq_len
    wanted = job.device_train_microbatch_size
    if wanted == "auto":
        return choose_microbatch(architecture.meta, job, seq_len=seq_len, device=device)
    rows = min(wanted, job.global_train_batch_size)
    try:
        check_fits(architecture.meta, job, microbatch_size=rows, seq_len=seq_len, device=device)
    except GenaiError as error:
        # Of a sharded model the prediction knows too little to refuse it.
        if device.type == "cuda" and config.fsdp_config is None:
            raise
        _log.warning("%s", error)
    return rows


def _build_model(loaded: Loaded[PretrainConfig], architecture: Architecture, device: torch.device) -> ProvableLoss:
    config = loaded.config
    with at(loaded, "model"):
        model = architecture.build(device)
    training_parts.finish_loading(loaded, model, device, activation_checkpointing=config.activation_checkpointing)
    model_loss = architecture.loss(model, config, device)
    if config.compile:
        # Not before: the loss first looks at the model with passes of several shapes.
        compile_blocks(model, device=device, deterministic=config.deterministic_mode)
    return model_loss


# --- the trainer ------------------------------------------------------------------------------------------------------


def open_checkpoints(parts: Parts, directory: RunDirectory) -> Checkpoints:
    """The run's checkpoints, in save_folder where one is given."""
    context = training_parts.context_of(
        parts.config,
        parts.device,
        parts.ranks,
        model_fingerprint=parts.architecture.fingerprint,
        data_fingerprint=parts.inputs.train.fingerprint,
    )
    return training_parts.open_causal_checkpoints(parts.config, directory, context, parts.ranks)


def build_trainer(
    parts: Parts, parallel: OneRank, checkpoints: Checkpoints, metrics: MetricSink, *, run_name: str
) -> Trainer:
    """The trainer with all its parts, at the beginning of the run."""
    return training_parts.make_trainer(
        parts.config,
        parallel,
        stream=parts.stream,
        steps=parts.steps,
        eval_batches=parts.eval_batches if parts.inputs.evaluation is not None else None,
        microbatch_size=parts.microbatch_size,
        checkpoints=checkpoints,
        metrics=metrics,
        run_name=run_name,
        seq_len=parts.config.max_seq_len,
        name_row=lambda index: f"sample {index} of train_loader",
        more_callbacks=(
            Perplexity(),
            *icl_callbacks(
                parts.config, parts.model, parts.tokenizer, parts.ranks, max_length=parts.config.max_seq_len
            ),
        ),
    )
