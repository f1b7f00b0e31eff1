"""The schema of `genai finetune`: what a job file may say, with its defaults.

Names are those of llm-foundry wherever the thing is the same. Every class is a frozen keyword-only dataclass; the text
under a field is its documentation (`genai config explain finetune.KEY`, the JSON schema and the docs are generated from
it). Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from genai.config.fields import (
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Share,
)
from genai.config.training import CausalTrainingConfig, PeftConfig

# --- model ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class QuantizationConfig:
    """Load the frozen base in 4 or 8 bits (QLoRA); needs bitsandbytes, which needs a supported accelerator."""

    bits: Literal[4, 8] = 4
    """Bits a weight."""
    quant_type: Literal["nf4", "fp4"] = "nf4"
    """Number format of 4-bit weights."""
    double_quant: bool = True
    """Quantise the quantisation constants as well."""


@dataclass(frozen=True, kw_only=True)
class HFCausalLMConfig:
    """A causal language model loaded by transformers."""

    name: Literal["hf_causal_lm"] = "hf_causal_lm"
    """Which kind of model."""
    pretrained_model_name_or_path: str
    """A model reference: gallery:NAME, hf:ORG/NAME, a folder, a .gguf file, s3://..., runs:RUN[/checkpoint],
    registry:NAME@ALIAS."""
    pretrained: bool = True
    """False: take only the architecture and start from random weights."""
    revision: str | None = None
    """Branch, tag or commit on the Hugging Face hub."""
    trust_remote_code: bool = False
    """Run Python that comes with the model. Leave it off unless you have read that code."""
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """Attention kernel."""
    config_overrides: dict[str, Any] = field(default_factory=dict)
    """Keys of the model's own config to change, e.g. {attention_dropout: 0.1}; unknown keys are refused."""
    peft_config: PeftConfig | None = None
    """Train an adapter instead of all weights."""
    adapter: str | None = None
    """Reference of an adapter (a folder, runs:RUN) to go on training; its shape replaces peft_config."""
    quantization: QuantizationConfig | None = None
    """Load the frozen base in few bits; only together with peft_config."""


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """Where the tokenizer comes from."""

    name: str | None = None
    """A model reference; by default the model's own tokenizer."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments for AutoTokenizer.from_pretrained."""
    chat_template: str | None = None
    """Jinja text (or the path of a .jinja file) that replaces the tokenizer's template; it runs sandboxed."""


# --- data -------------------------------------------------------------------------------------------------------------

RowFormat = Literal["auto", "chat", "prompt_response", "alpaca", "sharegpt", "text"]


@dataclass(frozen=True, kw_only=True)
class RowStreamConfig:
    """One of several data sets of shards of rows (MDS)."""

    remote: str | None = None
    """Where the shards lie: s3://..., gs://..., az://..., or a folder."""
    local: str | None = None
    """Where the shards lie on this machine, when there is no remote."""
    split: str | None = None
    """A folder below remote or local."""


@dataclass(frozen=True, kw_only=True)
class FinetuningDatasetConfig:
    """Rows to train or evaluate on, and how they become tokens."""

    path: str | list[str] | None = None
    """JSONL, Parquet or CSV files (a glob, a folder or a list works), local or s3://; or hf:DATASET; or
    delta:URI[@VERSION]; or gallery:NAME."""
    hf_name: str | None = None
    """llm-foundry's name of a Hugging Face data set; the same as path: hf:NAME."""
    hf_kwargs: dict[str, Any] = field(default_factory=dict)
    """Further arguments for datasets.load_dataset."""
    remote: str | None = None
    """In place of path: shards of rows (MDS), as `genai data convert --to rows` or llm-foundry's scripts write them:
    s3://..., gs://..., az://..., or a folder."""
    local: str | None = None
    """Where the shards lie on this machine, when there is no remote."""
    streams: dict[str, RowStreamConfig] | None = None
    """Several data sets of shards, by name, read one after the other; takes the place of remote and local."""
    validate_hash: str | None = None
    """Check each shard's hash of this kind, as the index names it."""
    split: str = "train"
    """Which split of a Hugging Face data set; of shards the folder below remote or local, where there is one."""
    format: RowFormat = "auto"
    """chat: {messages: [{role, content}]}; prompt_response: {prompt, response}; alpaca: {instruction, input,
    output}; sharegpt: {conversations: [{from, value}]}; text: {text}. auto looks at the first rows."""
    columns: dict[str, str] = field(default_factory=dict)
    """What the format expects -> what your file calls it, e.g. {prompt: q, response: a}."""
    system_prompt: str | None = None
    """Put before every conversation that has no system message."""
    max_rows: PositiveInt | None = None
    """Take at most this many rows (the first ones after the split)."""
    max_seq_len: PositiveInt | None = None
    """Longest row in tokens; by default the job's max_seq_len."""
    target_responses: Literal["all", "last"] = "all"
    """Which of the assistant's turns are trained: all of them or the last one."""
    target_prompts: Literal["none", "all"] = "none"
    """none: loss only on what the assistant says; all: on the prompts as well."""
    truncation: Literal["cut", "drop"] = "cut"
    """What happens to a row longer than max_seq_len."""
    shuffle: bool = True
    """New order each epoch, a pure function of the seed and the epoch."""
    shuffle_seed: int | None = None
    """Seed of that order; by default the job's seed."""
    packing_ratio: Literal["auto"] | PositiveFloat | None = None
    """auto: fill rows of max_seq_len with several examples (best fit, attention stays within each example). A
    number, as in llm-foundry, turns packing on as well: best fit needs no ratio."""
    decoder_only_format: Literal[True] = True
    """Kept for llm-foundry's files."""


@dataclass(frozen=True, kw_only=True)
class FinetuningLoaderConfig:
    """Rows turned into batches."""

    name: Literal["finetuning"] = "finetuning"
    """Which kind of loader."""
    dataset: FinetuningDatasetConfig
    """What is read."""
    drop_last: bool = False
    """Leave out the last batch of an epoch when it is not full."""


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """Hold back part of the training rows for evaluation; which ones depends on their content only, not on their
    order.
    """

    validation: Share | PositiveInt = 0.1
    """A share of the groups (0.1), or about how many rows (100)."""
    group_by: str | list[str] | None = None
    """Columns whose equal values stay on the same side; `near_duplicates` keeps rows of nearly the same words
    together."""
    seed: int = 17
    """Another seed, another split."""


@dataclass(frozen=True, kw_only=True)
class DataChecksConfig:
    """Thresholds on the data; one that is not met stops the job with exit code 3 before training. Shares lie between
    0 and 1.
    """

    max_bad_rows: Share = 0.0
    """Share of rows that cannot be read; the others are trained on, each bad one is named."""
    max_duplicates: Share = 1.0
    """Share of rows that are exact copies of another one."""
    max_truncated: Share = 0.1
    """Share of rows longer than max_seq_len."""
    max_leaked: Share = 0.0
    """Share of evaluation rows that also stand in the training rows."""
    min_rows: PositiveInt = 1
    """Rows that must be left for training."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What holds for all rows of the job."""

    split: SplitConfig | None = None
    """Make the evaluation rows by splitting the training rows (leave eval_loader out)."""
    checks: DataChecksConfig = field(default_factory=DataChecksConfig)
    """Thresholds that stop the job."""


# --- proofs, comparison -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LabelsProofConfig:
    """Render what is trained, and stop when it cannot be meant."""

    num_examples: PositiveInt = 3
    """Examples shown in the terminal and in the report."""
    max_cut_answers: Share = 0.1
    """Share of rows whose answer is cut off before its end-of-turn token."""


@dataclass(frozen=True, kw_only=True)
class ProofsConfig:
    """Checks on the real model and data before step 1, at most a minute together; null (labels) or false turns one
    off.
    """

    labels: LabelsProofConfig | None = field(default_factory=LabelsProofConfig)
    """Trained tokens are what was meant."""
    packing: bool = True
    """Packed rows give the same logits as separate ones."""
    accumulation: bool = True
    """The microbatch size does not change the gradient."""
    export: bool = True
    """The model can be saved, read back and exported, and the disk holds the checkpoints to come."""


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Compare the tuned model with the base model on evaluation rows when training is done."""

    num_samples: NonNegativeInt = 3
    """Evaluation prompts answered by both, side by side."""
    num_shots: NonNegativeInt = 3
    """The base model's loss is also measured with this many training rows in its prompt; 0 leaves that out."""
    max_new_tokens: PositiveInt = 96
    """Length of an answer."""


# --- the job ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(CausalTrainingConfig):
    """`genai finetune`: go on training a pretrained causal language model on rows of your own."""

    max_seq_len: PositiveInt = 1024
    """Longest sequence in tokens."""
    model: HFCausalLMConfig
    """What is trained."""
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    """Where the tokenizer comes from."""
    data: DataConfig = field(default_factory=DataConfig)
    """Split and checks."""
    train_loader: FinetuningLoaderConfig
    """Rows to train on."""
    eval_loader: FinetuningLoaderConfig | None = None
    """Rows to evaluate on; or use data.split."""
    global_train_batch_size: PositiveInt = 8
    """Rows an optimizer step, over all devices; with packing a row is a filled row of max_seq_len."""
    eval_first: bool = True
    """Evaluate before the first step, so that there is a 'before'."""
    proofs: ProofsConfig = field(default_factory=ProofsConfig)
    """Checks before step 1."""
    compare: CompareConfig = field(default_factory=CompareConfig)
    """Base and tuned side by side at the end."""
