"""Builds what training needs from the job file: model, tokenizer, token streams, trainer. Imports torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from genai.config.durations import Duration
from genai.config.finetune import FinetuneConfig, FinetuningDatasetConfig
from genai.config.loading import Loaded
from genai.data.batches import Batch, BatchStream, eval_batches
from genai.data.checks import check_tokens
from genai.data.labels import LabelSettings
from genai.data.prepare import PreparedRows
from genai.data.rows import RowSet
from genai.data.tokenized import TokenizedRows, tokenize
from genai.errors import GenaiError
from genai.jobs import training_parts
from genai.jobs.pinned_tables import TABLES
from genai.jobs.problems import at
from genai.jobs.training_icl import icl_callbacks
from genai.jobs.training_parts import choose_device
from genai.log import get_logger
from genai.models.adapters import add_adapter, check_target_modules, continue_adapter
from genai.models.loading import build_meta, fit_embeddings, load_model, load_tokenizer
from genai.models.references import ResolvedModel, resolve_adapter, resolve_model
from genai.storage.atomic import cache_dir
from genai.tracking.run import RunDirectory
from genai.training.checkpoints import Checkpoints, trained_parameters
from genai.training.compiling import compile_blocks
from genai.training.forward import CausalLMLoss
from genai.training.parallel.parallelize import place_of
from genai.training.parallel.ranks import Ranks
from genai.training.parallel.sharded_tensors import assign, gather, is_sharded
from genai.training.plan.microbatch import check_fits, choose_microbatch
from genai.training.plan.steps import StepPlan, count_steps
from genai.training.trainer import MetricSink, Trainer

_log = get_logger(__name__)


@dataclass(kw_only=True)
class Parts:
    """The heavy objects of a job, each built once."""

    config: FinetuneConfig
    device: torch.device
    resolved: ResolvedModel
    tokenizer: PreTrainedTokenizerBase
    model: Any
    """A PreTrainedModel, or a PeftModel around one."""
    model_loss: CausalLMLoss
    ranks: Ranks
    rows: PreparedRows
    train_tokens: TokenizedRows
    eval_tokens: TokenizedRows | None
    meta: Any
    """The plain model on the meta device: its shapes, for predictions."""
    stream: BatchStream
    steps: StepPlan
    microbatch_size: int

    @property
    def pad_token_id(self) -> int:
        """What fills the end of a row."""
        return pad_token_id(self.tokenizer)

    @property
    def fingerprints(self) -> dict[str, Any]:
        """What identifies the inputs: the model, the rows as tokens, the versions of tables."""
        return {
            "model": {"reference": self.resolved.reference, "fingerprint": self.resolved.fingerprint},
            "train": {"rows": len(self.train_tokens), "fingerprint": self.train_tokens.fingerprint},
            "eval": None
            if self.eval_tokens is None
            else {"rows": len(self.eval_tokens), "fingerprint": self.eval_tokens.fingerprint},
            **({TABLES: dict(self.rows.tables)} if self.rows.tables else {}),
        }

    def eval_batch_size(self, tokens: TokenizedRows) -> int:
        """Rows a forward pass in evaluation; for `auto` as many of the longest as a training pass has tokens."""
        if self.config.device_eval_batch_size != "auto":
            return self.config.device_eval_batch_size
        return max(1, self.microbatch_size * max_row(self.config) // int(tokens.lengths.max()))

    def eval_batches(self) -> Iterator[Batch]:
        """A fresh pass over the evaluation rows."""
        assert self.eval_tokens is not None
        return eval_batches(
            self.eval_tokens,
            max_seq_len=self.config.max_seq_len,
            batch_size=self.eval_batch_size(self.eval_tokens),
            pad_token_id=self.pad_token_id,
            rank=self.ranks.data_rank,
            world_size=self.ranks.data_world_size,
        )


def build_parts(loaded: Loaded[FinetuneConfig], inputs: PreparedRows, ranks: Ranks | None = None) -> Parts:
    """Fetch and load the model, tokenise the rows.

    Args:
        loaded: the job file.
        inputs: its rows.
        ranks: who trains; None for one process.

    Raises:
        ConfigError: the model does not fit the job file, with file:line:column.
    """
    config = loaded.config
    device = choose_device(config, ranks)
    ranks = place_of(ranks or Ranks(device=device), config.parallel, config.fsdp_config)
    torch.manual_seed(config.seed)
    with at(loaded, "model.pretrained_model_name_or_path"):
        resolved = resolve_model(
            config.model.pretrained_model_name_or_path, runs_dir=config.runs_dir, revision=config.model.revision
        )
    meta = _check_on_meta(loaded, resolved)
    with at(loaded, "tokenizer"):
        tokenizer = load_tokenizer(config.model, config.tokenizer, resolved, runs_dir=config.runs_dir)
    with ranks.main_first():
        train_tokens, eval_tokens = _tokenize_all(config, inputs, tokenizer)
    stream = build_stream(config, train_tokens, pad_token_id(tokenizer), ranks)
    microbatch_size = _microbatch_size(config, meta, train_tokens, device)
    model = _load(loaded, resolved, tokenizer, device)
    model_loss = CausalLMLoss(model, precision=config.precision, device=device)
    if config.compile:
        # Not before: the loss first looks at the model with passes of several shapes.
        compile_blocks(model, device=device, deterministic=config.deterministic_mode)
    return Parts(
        config=config,
        device=device,
        resolved=resolved,
        tokenizer=tokenizer,
        model=model,
        model_loss=model_loss,
        ranks=ranks,
        rows=inputs,
        train_tokens=train_tokens,
        eval_tokens=eval_tokens,
        meta=meta,
        stream=stream,
        steps=steps_of(config, stream, train_tokens),
        microbatch_size=microbatch_size,
    )


def _microbatch_size(config: FinetuneConfig, meta: torch.nn.Module, tokens: TokenizedRows, device: torch.device) -> int:
    """What the job file says, or for `auto` what fits; a GPU refuses what cannot fit, on a CPU that is a warning."""
    wanted = config.device_train_microbatch_size
    seq_len = longest_row(config, tokens)
    if wanted == "auto":
        packed = config.train_loader.dataset.packing_ratio is not None
        mean_row_tokens = None if packed else tokens.num_tokens / len(tokens)
        return choose_microbatch(meta, config, seq_len=seq_len, device=device, mean_row_tokens=mean_row_tokens)
    try:
        check_fits(meta, config, microbatch_size=wanted, seq_len=seq_len, device=device)
    except GenaiError as error:
        if device.type == "cuda":
            raise
        _log.warning("%s", error)
    return wanted


def longest_row(config: FinetuneConfig, tokens: TokenizedRows) -> int:
    """Tokens of the longest row of a batch, padding to a multiple of 8 included."""
    if config.train_loader.dataset.packing_ratio is not None:
        return max_row(config)
    return min(max_row(config), -(-int(tokens.lengths.max()) // 8) * 8)


def max_row(config: FinetuneConfig) -> int:
    """Longest training row in tokens."""
    return config.train_loader.dataset.max_seq_len or config.max_seq_len


def build_stream(config: FinetuneConfig, tokens: TokenizedRows, pad: int, ranks: Ranks | None = None) -> BatchStream:
    """The endless stream of this rank's training batches."""
    dataset = config.train_loader.dataset
    return BatchStream(
        tokens,
        max_seq_len=max_row(config),
        batch_size=config.global_train_batch_size,
        packing=dataset.packing_ratio is not None,
        shuffle=dataset.shuffle,
        seed=config.seed if dataset.shuffle_seed is None else dataset.shuffle_seed,
        drop_last=config.train_loader.drop_last,
        pad_token_id=pad,
        rank=ranks.data_rank if ranks else 0,
        world_size=ranks.data_world_size if ranks else 1,
    )


def steps_of(config: FinetuneConfig, stream: BatchStream, tokens: TokenizedRows) -> StepPlan:
    """The length of the run."""
    return count_steps(stream, Duration.parse(config.max_duration), num_rows=len(tokens), num_tokens=tokens.num_tokens)


def source_of(rows: RowSet, tokens: TokenizedRows, index: int) -> str:
    """Where the row of a tokenised example stands, as `path:line`."""
    return rows.rows[int(tokens.row_indices[index])].source


def pad_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The padding token; any will do, since padding is attended by nothing and carries no loss."""
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0)


def gather_model(parts: Parts, loaded: Loaded[FinetuneConfig]) -> None:
    """On rank 0, put the whole trained model in place of one that is sharded, on the CPU. All ranks must call it."""
    trained = trained_parameters(parts.model)
    if not any(is_sharded(parameter) for parameter in trained.values()):
        return
    weights = gather(trained, parts.ranks)
    if not parts.ranks.is_main:
        return
    parts.model = _load(loaded, parts.resolved, parts.tokenizer, torch.device("cpu"))
    for name, parameter in parts.model.named_parameters():
        if name in weights:
            assign(parameter, weights[name])


def _check_on_meta(loaded: Loaded[FinetuneConfig], resolved: ResolvedModel) -> torch.nn.Module:
    """The model without weights: its config is read and the adapter's targets are looked up before anything is
    loaded.
    """
    config = loaded.config
    with at(loaded, "model"):
        meta = build_meta(config.model, resolved)
    if config.model.peft_config is not None:
        with at(loaded, "model.peft_config.target_modules"):
            check_target_modules(meta, config.model.peft_config)
    return meta


def _load(
    loaded: Loaded[FinetuneConfig], resolved: ResolvedModel, tokenizer: PreTrainedTokenizerBase, device: torch.device
) -> Any:
    config = loaded.config
    model: Any
    with at(loaded, "model"):
        model = load_model(config.model, resolved, dtype=torch.float32, device=device, seed=config.seed)
    fit_embeddings(model, tokenizer)
    if config.model.adapter is not None:
        with at(loaded, "model.adapter"):
            adapter = resolve_adapter(config.model.adapter, runs_dir=config.runs_dir)
            model = continue_adapter(model, adapter, base=resolved)
    elif config.model.peft_config is not None:
        model = add_adapter(model, config.model.peft_config)
    training_parts.finish_loading(loaded, model, device, activation_checkpointing=config.activation_checkpointing)
    return model


def _tokenize_all(
    config: FinetuneConfig, inputs: PreparedRows, tokenizer: PreTrainedTokenizerBase
) -> tuple[TokenizedRows, TokenizedRows | None]:
    """Training and evaluation rows as tokens."""
    train_tokens = _tokenize(inputs.train, config.train_loader.dataset, config, tokenizer)
    check_tokens(train_tokens, inputs.train, config.data.checks)
    if inputs.evaluation is None:
        return train_tokens, None
    dataset = config.eval_loader.dataset if config.eval_loader is not None else config.train_loader.dataset
    return train_tokens, _tokenize(inputs.evaluation, dataset, config, tokenizer)


def _tokenize(
    rows: RowSet, dataset: FinetuningDatasetConfig, config: FinetuneConfig, tokenizer: PreTrainedTokenizerBase
) -> TokenizedRows:
    settings = LabelSettings(
        max_seq_len=dataset.max_seq_len or config.max_seq_len,
        target_prompts=dataset.target_prompts,
        truncation=dataset.truncation,
    )
    return tokenize(rows.rows, tokenizer, settings, cache_dir=cache_dir() / "tokenized")


# --- the trainer ------------------------------------------------------------------------------------------------------


def open_checkpoints(parts: Parts, directory: RunDirectory) -> Checkpoints:
    """The run's checkpoints, in save_folder where one is given."""
    context = training_parts.context_of(
        parts.config,
        parts.device,
        parts.ranks,
        model_fingerprint=parts.resolved.weights_fingerprint,
        data_fingerprint=parts.train_tokens.fingerprint,
    )
    return training_parts.open_causal_checkpoints(parts.config, directory, context, parts.ranks)


def build_trainer(parts: Parts, checkpoints: Checkpoints, metrics: MetricSink, *, run_name: str) -> Trainer:
    """The trainer with all its parts, at the beginning of the run."""
    return training_parts.make_trainer(
        parts.config,
        training_parts.share_work(parts.config, parts.model_loss, parts.ranks),
        stream=parts.stream,
        steps=parts.steps,
        eval_batches=parts.eval_batches if parts.eval_tokens is not None else None,
        microbatch_size=parts.microbatch_size,
        checkpoints=checkpoints,
        metrics=metrics,
        run_name=run_name,
        seq_len=parts.config.max_seq_len,
        name_row=lambda index: source_of(parts.rows.train, parts.train_tokens, index),
        more_callbacks=icl_callbacks(
            parts.config, parts.model, parts.tokenizer, parts.ranks, max_length=parts.config.max_seq_len
        ),
    )
