"""The schema of `genai pretrain`: what a job file may say, with its defaults.

Names are those of llm-foundry wherever the thing is the same. Every class is a frozen keyword-only dataclass; the text
under a field is its documentation (`genai config explain pretrain.KEY`, the JSON schema and the docs are generated from
it). Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Discriminator

from genai.config.fields import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveDurationText,
    PositiveFloat,
    PositiveInt,
    Share,
    SizeText,
)
from genai.config.training import CausalTrainingConfig

# --- model ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class HFModelConfig:
    """Any causal language model of transformers: from random weights, or going on from pretrained ones."""

    name: Literal["hf_causal_lm"] = "hf_causal_lm"
    """Which kind of model."""
    pretrained_model_name_or_path: str
    """A model reference: gallery:NAME, hf:ORG/NAME, a folder, s3://..., runs:RUN[/checkpoint]. With pretrained: false
    a folder with a config.json is enough."""
    pretrained: bool = True
    """False: take only the architecture and start from random weights."""
    revision: str | None = None
    """Branch, tag or commit on the Hugging Face hub."""
    trust_remote_code: bool = False
    """Run Python that comes with the model. Leave it off unless you have read that code."""
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """Attention kernel."""
    config_overrides: dict[str, Any] = field(default_factory=dict)
    """Keys of the model's own config to change, e.g. {num_hidden_layers: 6}; unknown keys are refused."""


@dataclass(frozen=True, kw_only=True)
class MPTAttentionConfig:
    """Attention of an MPT model. transformers' MPT carries out ALiBi and plain multi-head attention; a setting that
    asks for more is refused by name.
    """

    attn_impl: Literal["torch", "flash", "triton"] = "torch"
    """Kept for llm-foundry's files: transformers' MPT has one kernel."""
    attn_type: str = "multihead_attention"
    """Only multihead_attention."""
    attn_pdrop: Share = 0.0
    """Only 0."""
    clip_qkv: PositiveFloat | None = None
    """Limit on the entries of queries, keys and values."""
    softmax_scale: PositiveFloat | None = None
    """Scale of the scores; by default 1 / sqrt(head dimension)."""
    alibi: bool | None = None
    """Position by attention bias; the only kind that transformers' MPT has."""
    alibi_bias_max: PositiveInt = 8
    """Only 8."""
    rope: bool = False
    """Only false; the native model (name: llama) has rotary positions."""
    qk_ln: bool = False
    """Only false."""
    attn_uses_sequence_id: bool = False
    """Only false."""


@dataclass(frozen=True, kw_only=True)
class MPTModelConfig:
    """MPT as transformers implements it: ALiBi positions, no biases, a feed-forward layer of four times the width."""

    name: Literal["mpt_causal_lm"] = "mpt_causal_lm"
    """Which kind of model."""
    d_model: PositiveInt = 2048
    """Width."""
    n_heads: PositiveInt = 16
    """Attention heads; they divide d_model."""
    n_layers: PositiveInt = 24
    """Blocks."""
    expansion_ratio: PositiveFloat = 4
    """Only 4."""
    max_seq_len: PositiveInt | None = None
    """Longest sequence of the model; by default the job's."""
    vocab_size: PositiveInt = 50368
    """Rows of the embedding, at least as many as the tokenizer has tokens."""
    attn_config: MPTAttentionConfig = field(default_factory=MPTAttentionConfig)
    """Attention."""
    learned_pos_emb: bool | None = None
    """Only false: transformers' MPT has ALiBi."""
    no_bias: bool | None = None
    """Only true: transformers' MPT has no biases."""
    resid_pdrop: Share = 0.0
    """Only 0."""
    emb_pdrop: Share = 0.0
    """Only 0."""
    logit_scale: float | None = None
    """Only null."""
    norm_eps: PositiveFloat = 1e-5
    """Added to the variance in the norms."""
    initializer_range: PositiveFloat = 0.02
    """Standard deviation of the random weights."""
    tie_word_embeddings: bool = True
    """Share the weight of embedding and output layer."""


@dataclass(frozen=True, kw_only=True)
class LlamaModelConfig:
    """genai's own lean model of the Llama family; its export is a LlamaForCausalLM of transformers."""

    name: Literal["llama"] = "llama"
    """Which kind of model."""
    pretrained_model_name_or_path: str | None = None
    """Go on from the weights of a Llama: a model reference as for hf_causal_lm; its shape replaces the keys below."""
    d_model: PositiveInt | None = None
    """Width."""
    n_layers: PositiveInt | None = None
    """Blocks."""
    n_heads: PositiveInt | None = None
    """Attention heads."""
    n_kv_heads: PositiveInt | None = None
    """Heads of keys and values, which divide n_heads (grouped-query attention); by default n_heads."""
    head_dim: PositiveInt | None = None
    """Width of a head; by default d_model / n_heads."""
    expansion_ratio: PositiveFloat | None = None
    """Width of the gated feed-forward layer, as a multiple of d_model; by default 8/3, rounded up to a multiple of
    64."""
    vocab_size: PositiveInt | None = None
    """Rows of the embedding; by default as many as the tokenizer has tokens, rounded up to a multiple of 64."""
    max_seq_len: PositiveInt | None = None
    """Longest sequence of the model; by default the job's."""
    rope_theta: PositiveFloat = 10000.0
    """Base of the rotary frequencies."""
    rope_scaling: dict[str, Any] | None = None
    """Scaling of the rotary positions in transformers' words, e.g. {rope_type: linear, factor: 2.0}."""
    norm_eps: PositiveFloat = 1e-5
    """Added to the mean square in the norms."""
    tie_word_embeddings: bool = True
    """Share the weight of embedding and output layer."""


ModelConfig = Annotated[HFModelConfig | MPTModelConfig | LlamaModelConfig, Discriminator("name")]


@dataclass(frozen=True, kw_only=True)
class BaseTokenizerConfig:
    """The tokenizer that the shards were written with."""

    name: str | None = None
    """A folder with a tokenizer.json (`genai data tokenizer` makes one), or a model reference; for hf_causal_lm by
    default the model's own."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments for AutoTokenizer.from_pretrained."""


# --- data -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """One of several token streams that are mixed."""

    remote: str | None = None
    """Where the shards lie: s3://..., gs://..., az://..., or a folder."""
    local: str | None = None
    """Where the shards lie on this machine, when there is no remote."""
    split: str | None = None
    """A folder below remote and local."""
    proportion: NonNegativeFloat | None = None
    """Share of the mix, relative to the other streams' proportions."""
    repeat: PositiveFloat | None = None
    """How often its samples come in an epoch."""
    choose: NonNegativeInt | None = None
    """How many of its samples come in an epoch."""


@dataclass(frozen=True, kw_only=True)
class TextDatasetConfig:
    """Shards of tokens (MDS), as `genai data convert` or llm-foundry's scripts write them."""

    remote: str | None = None
    """Where the shards lie: s3://..., gs://..., az://..., or a folder."""
    local: str | None = None
    """Where the shards lie on this machine, when there is no remote; shards of a remote are kept in genai's cache."""
    split: str | None = None
    """A folder below remote and local."""
    streams: dict[str, StreamConfig] | None = None
    """Several streams to mix, by name; takes the place of remote, local and split."""
    max_seq_len: PositiveInt | None = None
    """Tokens a sample; by default the job's max_seq_len."""
    shuffle: bool = True
    """A new order each epoch, a pure function of the seed and the epoch; evaluation is always in order."""
    shuffle_seed: NonNegativeInt | None = None
    """Seed of that order; by default the job's seed."""
    shuffle_algo: Literal["py1e", "py1br", "py1b", "py1s", "py2s"] = "py1e"
    """py1e, py1br, py1b: shards in random order, samples spread over shuffle_block_size; py1s, py2s: samples within
    each shard only."""
    shuffle_block_size: PositiveInt = 262144
    """Samples over which each shard's samples are spread, about; so many lie in memory or in the cache at a time."""
    epoch_size: PositiveInt | None = None
    """Samples an epoch; by default all, once. Not together with repeat or choose."""
    cache_limit: PositiveInt | SizeText | None = None
    """Most room that shards of remote streams take on this machine, e.g. 10gb."""
    predownload: PositiveInt | None = None
    """Samples ahead whose shards are fetched; by default those of four shards."""
    validate_hash: str | None = None
    """Check each shard's hash of this kind, as the index names it."""


@dataclass(frozen=True, kw_only=True)
class TextLoaderConfig:
    """Shards of tokens turned into batches."""

    name: Literal["text"] = "text"
    """Which kind of loader."""
    dataset: TextDatasetConfig
    """What is streamed."""
    drop_last: bool = True
    """Leave out the last batch of an epoch when it is not full."""


# --- training ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is minimised beside the negative log-likelihood."""

    z_loss: NonNegativeFloat = 0.0
    """Weight of the squared log of the softmax's denominator, which keeps logits small (arXiv:2204.02311, section 5);
    1e-4 is common."""


@dataclass(frozen=True, kw_only=True)
class PretrainProofsConfig:
    """Checks on the real model and data before step 1; false turns one off."""

    accumulation: bool = True
    """The microbatch size does not change the gradient."""
    export: bool = True
    """The model can be saved, read back and exported."""


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(CausalTrainingConfig):
    """`genai pretrain`: train a causal language model on streams of tokens, from random weights or further on."""

    max_seq_len: PositiveInt = 2048
    """Tokens of a row; shards hold rows of this length or longer ones, whose end is left out."""
    model: ModelConfig
    """What is trained."""
    tokenizer: BaseTokenizerConfig = field(default_factory=BaseTokenizerConfig)
    """Goes into the exported model, and tells the size of the vocabulary."""
    train_loader: TextLoaderConfig
    """What to train on."""
    eval_loader: TextLoaderConfig | None = None
    """A held-out stream, whose loss and perplexity are measured."""
    eval_subset_num_batches: PositiveInt | None = None
    """Batches of device_eval_batch_size that an evaluation takes; by default all."""
    loss: LossConfig = field(default_factory=LossConfig)
    """What is minimised."""
    global_train_batch_size: PositiveInt = 256
    """Rows an optimizer step, over all devices."""
    eval_first: bool = False
    """Evaluate before the first step as well."""
    save_interval: PositiveDurationText = "1000ba"
    """How often to save a checkpoint; one is always saved at the end and on SIGTERM or Ctrl-C."""
    proofs: PretrainProofsConfig = field(default_factory=PretrainProofsConfig)
    """Checks before step 1."""
