"""What in a pretraining job contradicts itself or has no effect, as far as the job file alone tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from genai.config.checks_training import CAUSAL_CHECKS
from genai.config.findings import Finding, fault, no_effect
from genai.config.pretrain import (
    HFModelConfig,
    LlamaModelConfig,
    MPTModelConfig,
    PretrainConfig,
    StreamConfig,
    TextDatasetConfig,
)

_WEIGHTS = ("proportion", "repeat", "choose")
_SHAPE = ("d_model", "n_layers", "n_heads")
_CARRIED_OUT: dict[str, tuple[tuple[Any, ...], str]] = {
    "expansion_ratio": ((4,), "a feed-forward layer of four times the width"),
    "learned_pos_emb": ((None, False), "positions by ALiBi only"),
    "no_bias": ((None, True), "no biases"),
    "resid_pdrop": ((0,), "no dropout"),
    "emb_pdrop": ((0,), "no dropout"),
    "logit_scale": ((None,), "logits as they are"),
    "attn_config.attn_pdrop": ((0,), "no dropout"),
    "attn_config.attn_type": (("multihead_attention",), "multi-head attention only"),
    "attn_config.alibi": ((None, True), "positions by ALiBi only"),
    "attn_config.alibi_bias_max": ((8,), "a largest ALiBi bias of 8"),
    "attn_config.rope": ((False,), "positions by ALiBi only"),
    "attn_config.qk_ln": ((False,), "no norm on queries and keys"),
    "attn_config.attn_uses_sequence_id": ((False,), "attention over the whole row"),
}
"""Key of an MPT model -> the values that transformers' MPT carries out, and what it has."""


def check_pretrain(config: PretrainConfig) -> list[Finding]:
    """Faults that no single field shows, and settings without an effect."""
    return [finding for check in _CHECKS for finding in check(config)]


# --- data -------------------------------------------------------------------------------------------------------------


def _datasets(config: PretrainConfig) -> Iterator[Finding]:
    yield from _dataset("train_loader.dataset", config.train_loader.dataset, config)
    if config.eval_loader is not None:
        yield from _dataset("eval_loader.dataset", config.eval_loader.dataset, config)
        yield from _in_order("eval_loader.dataset", config.eval_loader.dataset)


def _dataset(key: str, dataset: TextDatasetConfig, config: PretrainConfig) -> Iterator[Finding]:
    alone = [name for name in ("remote", "local", "split") if getattr(dataset, name) is not None]
    if dataset.streams is None and not {"remote", "local"} & {*alone}:
        yield fault(key, f"{key} names no shards", "write remote: s3://BUCKET/FOLDER, or local: FOLDER")
    if dataset.streams is not None:
        if alone:
            message = f"{key} has both streams and {alone[0]}"
            yield fault(f"{key}.{alone[0]}", message, "name it inside of each stream")
        yield from _streams(f"{key}.streams", dataset.streams)
        absolute = [name for name, each in dataset.streams.items() if (each.repeat, each.choose) != (None, None)]
        if absolute and dataset.epoch_size is not None:
            message = f"{key}.epoch_size cannot be met: the stream '{absolute[0]}' has repeat or choose"
            yield fault(f"{key}.epoch_size", message, "mix by proportion, or leave it out")
    if dataset.max_seq_len is not None and dataset.max_seq_len != config.max_seq_len:
        message = f"{key}.max_seq_len is {dataset.max_seq_len}, and the job's max_seq_len {config.max_seq_len}"
        yield fault(f"{key}.max_seq_len", message, "write the same, or leave this one out")


def _streams(key: str, streams: dict[str, StreamConfig]) -> Iterator[Finding]:
    if not streams:
        yield fault(key, f"{key} is empty", "write streams: {NAME: {remote: s3://BUCKET/FOLDER}}")
    for name, stream in streams.items():
        if stream.remote is None and stream.local is None:
            yield fault(f"{key}.{name}", f"the stream '{name}' names no shards", "write remote: or local:")
        given = [weight for weight in _WEIGHTS if getattr(stream, weight) is not None]
        if len(given) > 1:
            message = f"the stream '{name}' has both {given[0]} and {given[1]}"
            yield fault(f"{key}.{name}.{given[1]}", message, "keep one of them")
    by_share = [name for name, stream in streams.items() if stream.proportion is not None]
    others = [name for name in streams if name not in by_share]
    if by_share and others:
        message = f"the stream '{by_share[0]}' has a proportion, and '{others[0]}' has none"
        yield fault(f"{key}.{others[0]}", message, "give every stream a proportion, or none")
    elif by_share and not sum(stream.proportion or 0 for stream in streams.values()):
        yield fault(key, "the proportions of all streams are 0", "give one of them more")


def _in_order(key: str, dataset: TextDatasetConfig) -> Iterator[Finding]:
    """An evaluation is one pass over everything, in order."""
    default = TextDatasetConfig()
    for name in ("shuffle_algo", "shuffle_block_size", "epoch_size", "predownload"):
        if getattr(dataset, name) != getattr(default, name):
            yield no_effect(f"{key}.{name}", "evaluation takes the samples in order, each once")
    for name, stream in (dataset.streams or {}).items():
        for weight in _WEIGHTS:
            if getattr(stream, weight) is not None:
                yield no_effect(f"{key}.streams.{name}.{weight}", "evaluation takes the samples in order, each once")


def _evaluation(config: PretrainConfig) -> Iterator[Finding]:
    if config.eval_loader is not None:
        return
    if config.callbacks.early_stopping is not None:
        message = "early stopping needs a held-out stream"
        yield fault("callbacks.early_stopping", message, "add an eval_loader")
    if config.icl_tasks:
        message = "icl_tasks are measured with the held-out stream, and there is none"
        yield fault("icl_tasks", message, "add an eval_loader")
    default = PretrainConfig(model=config.model, train_loader=config.train_loader)
    for key in ("eval_interval", "eval_first", "eval_subset_num_batches", "device_eval_batch_size"):
        if getattr(config, key) != getattr(default, key):
            yield no_effect(key, "there is no eval_loader")


# --- model ------------------------------------------------------------------------------------------------------------


def _model(config: PretrainConfig) -> Iterator[Finding]:
    match config.model:
        case HFModelConfig():
            yield from _hugging_face(config.model)
        case MPTModelConfig():
            yield from _mpt(config.model)
        case LlamaModelConfig():
            yield from _llama(config.model)
    own_length = getattr(config.model, "max_seq_len", None)
    if own_length is not None and own_length < config.max_seq_len:
        message = f"model.max_seq_len of {own_length} is shorter than the job's max_seq_len of {config.max_seq_len}"
        yield fault("model.max_seq_len", message, f"write {config.max_seq_len}, or leave it out")
    has_tokenizer = isinstance(config.model, HFModelConfig) or _pretrained_llama(config)
    if config.tokenizer.name is None and not has_tokenizer:
        message = "tokenizer.name is missing: the model brings no tokenizer"
        yield fault("tokenizer", message, "write tokenizer: {name: FOLDER}, the one that the shards were written with")


def _pretrained_llama(config: PretrainConfig) -> bool:
    model = config.model
    return isinstance(model, LlamaModelConfig) and model.pretrained_model_name_or_path is not None


def _hugging_face(model: HFModelConfig) -> Iterator[Finding]:
    reference = model.pretrained_model_name_or_path
    if model.revision is not None and ":" in reference[1:] and not reference.startswith("hf:"):
        yield no_effect("model.revision", f"{reference.partition(':')[0]}: references have no revisions")


def _mpt(model: MPTModelConfig) -> Iterator[Finding]:
    for key, (carried_out, has) in _CARRIED_OUT.items():
        value: Any = model
        for name in key.split("."):
            value = getattr(value, name)
        if value not in carried_out:
            message = f"model.{key} of {_written(value)} cannot be carried out: transformers' MPT has {has}"
            yield fault(f"model.{key}", message, _mpt_fix(carried_out))
    if model.attn_config.alibi is None and model.learned_pos_emb is None:
        why = "model.attn_config.alibi is true here: transformers' MPT has no learned positions, llm-foundry's default"
        yield Finding(("model",), f"{why} (write attn_config: {{alibi: true}} to agree)", is_warning=True)
    if model.no_bias is None:
        why = "model.no_bias is true here: transformers' MPT has no biases, which llm-foundry's has by default"
        yield Finding(("model",), f"{why} (write no_bias: true to agree)", is_warning=True)
    if model.d_model % model.n_heads:
        yield _not_divisible("n_heads", model.n_heads, "d_model", model.d_model)


def _written(value: Any) -> str:
    """A value as it stands in YAML."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _mpt_fix(carried_out: tuple[Any, ...]) -> str:
    values = [_written(value) for value in carried_out if value is not None]
    return f"write {values[-1]}, or take name: llama" if values else "leave it out, or take name: llama"


def _llama(model: LlamaModelConfig) -> Iterator[Finding]:
    written = [name for name in _SHAPE if getattr(model, name) is not None]
    if model.pretrained_model_name_or_path is not None:
        for name in (*written, "n_kv_heads", "head_dim", "expansion_ratio", "vocab_size"):
            if getattr(model, name) is not None:
                yield no_effect(f"model.{name}", "the pretrained model has a shape of its own")
        return
    for name in _SHAPE:
        if name not in written:
            message = f"'model.{name}' is missing"
            yield fault("model", message, "for some 25 M parameters: {d_model: 384, n_layers: 12, n_heads: 6}")
    if model.d_model and model.n_heads and model.head_dim is None and model.d_model % model.n_heads:
        yield _not_divisible("n_heads", model.n_heads, "d_model", model.d_model)
    if model.n_heads and model.n_kv_heads and model.n_heads % model.n_kv_heads:
        yield _not_divisible("n_kv_heads", model.n_kv_heads, "n_heads", model.n_heads)


def _not_divisible(key: str, value: int, of: str, whole: int) -> Finding:
    near = max(size for size in range(1, value) if whole % size == 0)
    message = f"model.{of} of {whole} cannot be divided by model.{key} of {value}"
    return fault(f"model.{key}", message, f"write {near}, for example")


def _tokenizer(config: PretrainConfig) -> Iterator[Finding]:
    if "trust_remote_code" in config.tokenizer.kwargs:
        message = "trust_remote_code is a key of the model, and holds for its tokenizer too"
        yield fault("tokenizer.kwargs.trust_remote_code", message, "write model.trust_remote_code: true, or remove it")


_CHECKS: tuple[Callable[[PretrainConfig], Iterator[Finding]], ...] = (
    _model,
    _tokenizer,
    _datasets,
    _evaluation,
    *CAUSAL_CHECKS,
)
