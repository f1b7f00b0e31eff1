"""Sections that every training job has: optimizer, schedule, algorithms, callbacks, loggers; free of torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Discriminator

from genai.config.fields import DurationText, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Share

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


OptimizerConfig = Annotated[AdamWConfig | DecoupledAdamWConfig | DecoupledLionWConfig, Discriminator("name")]


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
