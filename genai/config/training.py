"""Sections that every training job has: optimizer, schedule, algorithms, callbacks, loggers; free of torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Discriminator

from genai.config.eval import IclTaskConfig
from genai.config.fields import (
    DurationText,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveDurationText,
    PositiveFloat,
    PositiveInt,
    Share,
)

# --- optimizer and schedule -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AdamWConfig:
    """AdamW (arXiv:1711.05101), fused."""

    name: Literal["adamw"] = "adamw"
    """Which optimizer."""
    lr: PositiveFloat = 1e-5
    """Peak learning rate."""
    betas: tuple[Share, Share] = (0.9, 0.95)
    """Decay of the two moments."""
    eps: PositiveFloat = 1e-8
    """Added to the denominator."""
    weight_decay: NonNegativeFloat = 0.0
    """Multiplied by the learning rate at each step."""


@dataclass(frozen=True, kw_only=True)
class DecoupledAdamWConfig:
    """AdamW whose weight decay follows the schedule but not the peak learning rate, as in Composer."""

    name: Literal["decoupled_adamw"] = "decoupled_adamw"
    """Which optimizer."""
    lr: PositiveFloat = 1e-5
    """Peak learning rate."""
    betas: tuple[Share, Share] = (0.9, 0.95)
    """Decay of the two moments."""
    eps: PositiveFloat = 1e-8
    """Added to the denominator."""
    weight_decay: NonNegativeFloat = 0.0
    """Share of a weight removed at each step at the peak learning rate; not multiplied by it."""


@dataclass(frozen=True, kw_only=True)
class DecoupledLionWConfig:
    """Lion (arXiv:2302.06675) with decoupled weight decay: one moment instead of two."""

    name: Literal["decoupled_lionw"] = "decoupled_lionw"
    """Which optimizer."""
    lr: PositiveFloat = 1e-6
    """Peak learning rate; about a tenth of AdamW's."""
    betas: tuple[Share, Share] = (0.9, 0.99)
    """Interpolation for the step and decay of the moment."""
    weight_decay: NonNegativeFloat = 0.0
    """Share of a weight removed at each step at the peak learning rate."""


@dataclass(frozen=True, kw_only=True)
class MuonConfig:
    """Muon (orthogonalised momentum) for the matrices of the blocks, fused AdamW for all other parameters."""

    name: Literal["muon"] = "muon"
    """Which optimizer."""
    lr: PositiveFloat = 1e-3
    """Peak learning rate of the matrices; what it means depends on adjust_lr."""
    momentum: Share = 0.95
    """Decay of the momentum."""
    nesterov: bool = True
    """Look one step ahead along the momentum."""
    ns_steps: PositiveInt = 5
    """Newton-Schulz steps that make a step's matrix orthogonal."""
    adjust_lr: Literal["match_rms_adamw", "original"] = "match_rms_adamw"
    """match_rms_adamw: steps as large as AdamW's, so that its lr can be kept (arXiv:2502.16982); original: Keller
    Jordan's scale, with an lr of about 0.02."""
    weight_decay: NonNegativeFloat = 0.1
    """Multiplied by the learning rate at each step, for both optimizers; not applied to norms and biases."""
    adamw_lr: PositiveFloat | None = None
    """Peak learning rate of embeddings, head, norms and biases; null for lr."""
    betas: tuple[Share, Share] = (0.9, 0.95)
    """Decay of AdamW's two moments."""
    eps: PositiveFloat = 1e-8
    """Added to AdamW's denominator."""


OptimizerConfig = Annotated[
    AdamWConfig | DecoupledAdamWConfig | DecoupledLionWConfig | MuonConfig, Discriminator("name")
]


@dataclass(frozen=True, kw_only=True)
class CosineConfig:
    """Linear warm-up, then half a cosine down to alpha_f."""

    name: Literal["cosine_with_warmup"] = "cosine_with_warmup"
    """Which schedule."""
    t_warmup: DurationText = "0ba"
    """Length of the warm-up."""
    t_max: DurationText = "1dur"
    """When the end value is reached."""
    alpha_f: Share = 0.1
    """End value, as a share of the peak learning rate."""


@dataclass(frozen=True, kw_only=True)
class LinearConfig:
    """Linear warm-up, then a straight line down to alpha_f."""

    name: Literal["linear_decay_with_warmup"] = "linear_decay_with_warmup"
    """Which schedule."""
    t_warmup: DurationText = "0ba"
    """Length of the warm-up."""
    t_max: DurationText = "1dur"
    """When the end value is reached."""
    alpha_f: Share = 0.0
    """End value, as a share of the peak learning rate."""


@dataclass(frozen=True, kw_only=True)
class ConstantConfig:
    """Linear warm-up, then the peak learning rate to the end."""

    name: Literal["constant_with_warmup"] = "constant_with_warmup"
    """Which schedule."""
    t_warmup: DurationText = "0ba"
    """Length of the warm-up."""


@dataclass(frozen=True, kw_only=True)
class WSDConfig:
    """Warm-up, stable, decay (arXiv:2405.18392): the peak learning rate until a last stretch of linear decay."""

    name: Literal["wsd"] = "wsd"
    """Which schedule."""
    t_warmup: DurationText = "0ba"
    """Length of the warm-up."""
    t_decay: DurationText = "0.1dur"
    """Length of the decay at the end."""
    alpha_f: Share = 0.0
    """End value, as a share of the peak learning rate."""


SchedulerConfig = Annotated[CosineConfig | LinearConfig | ConstantConfig | WSDConfig, Discriminator("name")]


@dataclass(frozen=True, kw_only=True)
class GradientClippingConfig:
    """Limit on the gradient before each step."""

    clipping_type: Literal["norm", "value"] = "norm"
    """norm: scale the whole gradient; value: cut each entry."""
    clipping_threshold: PositiveFloat = 1.0
    """The limit."""


@dataclass(frozen=True, kw_only=True)
class AlgorithmsConfig:
    """Changes to the training step."""

    gradient_clipping: GradientClippingConfig | None = field(default_factory=GradientClippingConfig)
    """Clip gradients; null turns it off."""


# --- many ranks -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class FsdpConfig:
    """Shard weights, gradients and optimizer state over the ranks (FSDP2), by llm-foundry's names.

    Keys of the first FSDP that the second decides for itself are taken, and have no effect: see `FSDP_WITHOUT_EFFECT`.
    """

    sharding_strategy: Literal["FULL_SHARD", "SHARD_GRAD_OP", "HYBRID_SHARD", "_HYBRID_SHARD_ZERO2", "NO_SHARD"] = (
        "FULL_SHARD"
    )
    """FULL_SHARD: gather each block's weights for its pass only. SHARD_GRAD_OP: keep them until the backward pass.
    HYBRID: shard within a machine, copy between machines. NO_SHARD: whole models on all ranks, which is `ddp`."""
    mixed_precision: Literal["PURE", "DEFAULT", "FULL"] = "DEFAULT"
    """Under amp_bf16. PURE: weights and sums of gradients travel in bfloat16; DEFAULT: sums in float32; FULL: both in
    float32."""
    activation_checkpointing: bool = False
    """Keep only the input of each block, compute the rest again in the backward pass."""
    activation_cpu_offload: bool = False
    """Keep what the backward pass needs in the host's memory."""
    cpu_offload: bool = False
    """Keep weights, gradients and optimizer state in the host's memory, and step there; needs a GPU."""
    state_dict_type: Literal["full", "sharded"] = "sharded"
    """sharded: every rank writes its part of a checkpoint; full: rank 0 gathers and writes plain safetensors. Both
    can be read by any number of ranks."""
    limit_all_gathers: bool = True
    """No effect: always limited."""
    use_orig_params: bool = True
    """No effect: parameters are always the model's own."""
    sync_module_states: bool = False
    """No effect: all ranks load the same weights."""
    backward_prefetch: Literal["BACKWARD_POST", "BACKWARD_PRE", "NONE"] = "BACKWARD_POST"
    """No effect: the next block is always gathered before the backward pass of the current one."""
    forward_prefetch: bool = False
    """No effect: the next block is always gathered while the current one computes."""
    keep_low_precision_grads: bool = False
    """No effect: gradients are kept in the weights' precision."""
    activation_checkpointing_reentrant: bool = False
    """No effect: always the kind that is not reentrant."""
    load_monolith_rank0_only: bool = False
    """No effect: every rank reads its own part."""
    verbose: bool = False
    """No effect."""


FSDP_WITHOUT_EFFECT = (
    "limit_all_gathers",
    "use_orig_params",
    "sync_module_states",
    "backward_prefetch",
    "forward_prefetch",
    "keep_low_precision_grads",
    "activation_checkpointing_reentrant",
    "load_monolith_rank0_only",
    "verbose",
)
"""Keys of fsdp_config that are read and change nothing."""


@dataclass(frozen=True, kw_only=True)
class ParallelConfig:
    """How several ranks (`--nproc`) share the work."""

    strategy: Literal["auto", "ddp", "fsdp2"] = "auto"
    """ddp: whole models, summed gradients; fsdp2: sharded as fsdp_config says; auto: fsdp2 where fsdp_config is set."""
    tensor_parallel_degree: PositiveInt = 1
    """Neighbouring ranks that compute each matrix product of a block together; with ddp only."""
    save_in_background: bool = False
    """Go on training while a checkpoint is written, from a copy in the host's memory."""


# --- callbacks and loggers --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class EarlyStoppingConfig:
    """Stop when the evaluation loss no longer falls."""

    patience: PositiveInt = 3
    """Evaluations without an improvement before the job stops."""
    min_delta: NonNegativeFloat = 0.0
    """What counts as an improvement."""


@dataclass(frozen=True, kw_only=True)
class LossSpikeConfig:
    """Act on a loss far above its recent course."""

    window: PositiveInt = 50
    """Batches that make the recent course."""
    threshold: PositiveFloat = 4.0
    """How many times the median of the window."""
    action: Literal["warn", "stop"] = "warn"
    """warn: log it; stop: save nothing, end with exit code 1 and name the last good checkpoint."""


@dataclass(frozen=True, kw_only=True)
class NaNGuardConfig:
    """Act on a loss or gradient that is not finite; the optimizer step is never taken with it."""

    max_skipped: NonNegativeInt = 3
    """Steps in a row that may be skipped before the job stops."""


@dataclass(frozen=True, kw_only=True)
class WebhookConfig:
    """POST a small JSON (run, status, last metrics) when the job ends or crashes."""

    url: str
    """Where to: env:NAME, file:PATH, or a plain URL that holds no secret."""
    timeout_s: PositiveFloat = 10.0
    """Deadline of the request; a webhook that fails is a warning, never an error."""


@dataclass(frozen=True, kw_only=True)
class CallbacksConfig:
    """What watches the training; speed, memory and learning rate are always logged."""

    early_stopping: EarlyStoppingConfig | None = None
    """Stop when evaluation no longer improves."""
    loss_spike: LossSpikeConfig | None = field(default_factory=LossSpikeConfig)
    """Warn or stop on a sudden rise of the loss."""
    nan_guard: NaNGuardConfig = field(default_factory=NaNGuardConfig)
    """Skip or stop on values that are not finite."""
    webhook: WebhookConfig | None = None
    """Tell a URL when the job ends."""
    plugins: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Callbacks of installed plugins (`genai plugins ls`) with their settings."""


@dataclass(frozen=True, kw_only=True)
class TensorboardConfig:
    """Scalars for TensorBoard (extra `tensorboard`)."""

    log_dir: str | None = None
    """Folder; by default tensorboard/ in the run directory."""


@dataclass(frozen=True, kw_only=True)
class MLflowConfig:
    """Scalars and parameters for MLflow (extra `mlflow`), sent in batches."""

    tracking_uri: str | None = None
    """Server or folder; by default what MLFLOW_TRACKING_URI says, else a local SQLite file in the runs directory."""
    experiment_name: str = "genai"
    """Experiment that the run belongs to."""
    flush_every_s: PositiveFloat = 5.0
    """Seconds between two batches of metrics."""


@dataclass(frozen=True, kw_only=True)
class WandbConfig:
    """Scalars for Weights & Biases (extra `wandb`)."""

    project: str = "genai"
    """Project that the run belongs to."""
    entity: str | None = None
    """Team or user."""
    mode: Literal["online", "offline"] = "offline"
    """offline writes to the run directory only."""


@dataclass(frozen=True, kw_only=True)
class LoggersConfig:
    """Where metrics go beside metrics.jsonl, which is always written."""

    tensorboard: TensorboardConfig | None = None
    """TensorBoard event files."""
    mlflow: MLflowConfig | None = None
    """An MLflow server."""
    wandb: WandbConfig | None = None
    """Weights & Biases."""


# --- adapters and what is written ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PeftConfig:
    """A low-rank adapter trained in place of the whole model; the names are peft's."""

    peft_type: Literal["LORA"] = "LORA"
    """The kind of adapter."""
    task_type: Literal["CAUSAL_LM"] = "CAUSAL_LM"
    """Kept for llm-foundry's files."""
    r: PositiveInt = 16
    """Rank of the update matrices."""
    lora_alpha: PositiveFloat = 32
    """Scale of the update: it is multiplied by lora_alpha / r (by lora_alpha / sqrt(r) with use_rslora)."""
    lora_dropout: Share = 0.0
    """Dropout on the adapter's input while training."""
    target_modules: str | list[str] = "all-linear"
    """Names (or one regular expression) of the linear layers that get an adapter; `all-linear` takes all but the
    output layer."""
    modules_to_save: list[str] | None = None
    """Modules trained in full and saved beside the adapter, e.g. [embed_tokens, lm_head] after adding tokens."""
    use_dora: bool = False
    """DoRA: learn the magnitude and the direction of the update apart (arXiv:2402.09353)."""
    use_rslora: bool = False
    """Rank-stabilised scaling (arXiv:2312.03732)."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Which bias terms are trained."""
    init_lora_weights: bool | Literal["gaussian", "pissa", "olora"] = True
    """How A and B start; with the default B is zero, so that training starts from the base model exactly."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What is written to the run's model/ folder at the end."""

    formats: list[Literal["hf", "gguf"]] = field(default_factory=lambda: ["hf"])
    """hf, always written: a folder that plain transformers loads (an adapter is merged into it and kept beside it).
    gguf: also one file for llama.cpp and Ollama."""


# --- every training job -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TrainingJobConfig:
    """What every training job says alike."""

    variables: dict[str, Any] = field(default_factory=dict)
    """Values to refer to elsewhere as ${variables.NAME}."""
    run_name: str | None = None
    """Name of the run directory; by default the file's stem and a hash of the config."""
    runs_dir: str = "runs"
    """Where run directories lie."""
    seed: NonNegativeInt = 17
    """Seed of everything random."""
    optimizer: OptimizerConfig = field(default_factory=AdamWConfig)
    """How weights are moved."""
    scheduler: SchedulerConfig = field(default_factory=CosineConfig)
    """Course of the learning rate."""
    algorithms: AlgorithmsConfig = field(default_factory=AlgorithmsConfig)
    """Changes to the training step."""
    max_duration: PositiveDurationText = "1ep"
    """How long to train."""
    global_train_batch_size: PositiveInt
    """Rows an optimizer step, over all devices."""
    device_train_microbatch_size: Literal["auto"] | PositiveInt = "auto"
    """Rows a forward pass; auto takes what fits into memory. The gradient does not depend on it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a GPU when there is one."""
    num_threads: PositiveInt | None = None
    """CPU threads; by default as many as the cgroup allows. Part of what makes a run exactly repeatable."""
    precision: Literal["amp_bf16", "fp32"] = "amp_bf16"
    """amp_bf16: bfloat16 arithmetic over float32 weights (a frozen base is held in bfloat16); fp32: float32
    throughout."""
    deterministic_mode: bool = False
    """Only deterministic kernels; needed for bit-equal repeats with compile or on a GPU."""
    eval_interval: PositiveDurationText = "1ep"
    """How often to evaluate; it is always done at the end."""
    callbacks: CallbacksConfig = field(default_factory=CallbacksConfig)
    """What watches the training."""
    loggers: LoggersConfig = field(default_factory=LoggersConfig)
    """Where metrics go."""
    save_folder: str | None = None
    """Where checkpoints go, local or s3://; by default checkpoints/ in the run directory."""
    save_interval: PositiveDurationText = "1ep"
    """How often to save a checkpoint; one is always saved at the end and on SIGTERM or Ctrl-C."""
    save_num_checkpoints_to_keep: PositiveInt = 2
    """The newest ones are kept, and the one with the best evaluation loss."""
    autoresume: bool = True
    """The same command again goes on where the run stopped."""
    resume: Literal["exact", "best_effort"] = "best_effort"
    """exact: refuse to go on when the continuation could not be bit-equal; best_effort: go on and say what differs."""
    load_path: str | None = None
    """Warm start: take the weights (not the optimizer, not the position in the data) of a checkpoint or run."""


@dataclass(frozen=True, kw_only=True)
class CausalTrainingConfig(TrainingJobConfig):
    """What the jobs that train causal language models say alike."""

    device_eval_batch_size: Literal["auto"] | PositiveInt = "auto"
    """Rows a forward pass in evaluation."""
    icl_tasks: list[IclTaskConfig] = field(default_factory=list)
    """Tasks of in-context learning, as for genai eval, measured at every evaluation: icl/LABEL/0-shot/accuracy."""
    compile: bool = False
    """torch.compile each decoder block; needs a C++ compiler, otherwise the job says so and goes on eagerly."""
    activation_checkpointing: bool = False
    """Keep only the inputs of each decoder block and compute the rest again: less memory, about a third more time."""
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    """How several ranks (--nproc) share the work."""
    fsdp_config: FsdpConfig | None = None
    """Shard the model over the ranks."""
    export: ExportConfig = field(default_factory=ExportConfig)
    """What is written at the end."""
