from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from genai.config.checks_pretrain import check_pretrain
from genai.config.loading import load
from genai.config.pretrain import PretrainConfig
from genai.config.tree import dotted
from genai.errors import ConfigError

Write = Callable[..., Path]
MINIMAL = """\
model: {name: llama, d_model: 64, n_layers: 2, n_heads: 4}
tokenizer: {name: tokenizer}
train_loader: {dataset: {local: shards}}
"""
DATASET = "train_loader.dataset"
STREAMS = f"{DATASET}={{streams: {{a: {{local: x}}, b: {{local: y}}}}}}"
MPT = "model={name: mpt_causal_lm, attn_config: {alibi: true}, no_bias: true}"


def findings(write: Write, *overrides: str) -> list[tuple[str, str, str | None]]:
    """The checks' findings for the minimal job with overrides, past the loader (which raises on the first faults)."""
    try:
        loaded = load(write(MINIMAL), PretrainConfig, overrides)
    except ConfigError as error:
        return [(problem.where or "", problem.message, problem.fix) for problem in error.problems]
    return [(dotted(each.key), each.message, each.fix) for each in check_pretrain(loaded.config)]


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        [STREAMS],
        [STREAMS, f"{DATASET}.streams.a.proportion=0.3", f"{DATASET}.streams.b.proportion=1"],
        [STREAMS, f"{DATASET}.streams.a.repeat=2.5"],
        ["eval_loader={dataset: {remote: s3://b/x, split: val, cache_limit: 10gb}}", "callbacks.early_stopping={}"],
        ["model={name: hf_causal_lm, pretrained_model_name_or_path: x}", "tokenizer.name=null"],
        ["model={name: llama, pretrained_model_name_or_path: x}", "tokenizer.name=null"],
        [MPT],
    ],
)
def test_sound_jobs_have_none(write: Write, overrides: list[str]) -> None:
    assert findings(write, *overrides) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([f"{DATASET}={{}}"], "train_loader.dataset names no shards"),
        ([f"{DATASET}={{split: train}}"], "train_loader.dataset names no shards"),
        ([f"{DATASET}.streams={{a: {{local: x}}}}"], "train_loader.dataset has both streams and local"),
        ([f"{DATASET}={{streams: {{}}}}"], "train_loader.dataset.streams is empty"),
        ([f"{DATASET}={{streams: {{a: {{split: x}}}}}}"], "the stream 'a' names no shards"),
        ([STREAMS, f"{DATASET}.streams.b.proportion=1"], "the stream 'b' has a proportion, and 'a' has none"),
        (
            [f"{DATASET}={{streams: {{a: {{local: x, proportion: 0}}}}}}"],
            "the proportions of all streams are 0",
        ),
        (
            [f"{DATASET}={{streams: {{a: {{local: x, repeat: 2, choose: 5}}}}}}"],
            "the stream 'a' has both repeat and choose",
        ),
        (
            [STREAMS, f"{DATASET}.streams.a.choose=3", f"{DATASET}.epoch_size=10"],
            "train_loader.dataset.epoch_size cannot be met: the stream 'a' has repeat or choose",
        ),
        ([f"{DATASET}.max_seq_len=64"], "train_loader.dataset.max_seq_len is 64, and the job's max_seq_len 2048"),
        (["eval_loader.dataset={}"], "eval_loader.dataset names no shards"),
        (["callbacks.early_stopping={}"], "early stopping needs a held-out stream"),
        (["tokenizer.name=null"], "tokenizer.name is missing: the model brings no tokenizer"),
        (["model.d_model=null", "model.n_heads=null"], "'model.d_model' is missing"),
        (["model.n_heads=6"], "model.d_model of 64 cannot be divided by model.n_heads of 6"),
        (["model.n_kv_heads=3"], "model.n_heads of 4 cannot be divided by model.n_kv_heads of 3"),
        (["model.max_seq_len=1024"], "model.max_seq_len of 1024 is shorter than the job's max_seq_len of 2048"),
        ([MPT, "model.n_heads=3"], "model.d_model of 2048 cannot be divided by model.n_heads of 3"),
        ([MPT, "model.attn_config.qk_ln=true"], "model.attn_config.qk_ln of true cannot be carried out"),
        ([MPT, "model.attn_config.attn_pdrop=0.1"], "model.attn_config.attn_pdrop of 0.1 cannot be carried out"),
        (["tokenizer.kwargs={trust_remote_code: true}"], "trust_remote_code is a key of the model"),
        (["device_train_microbatch_size=7"], "global_train_batch_size of 256 cannot be divided into microbatches of 7"),
        (["scheduler.t_warmup=5ba", "max_duration=3ba"], "scheduler.t_warmup of 5ba is longer than max_duration"),
        (
            ["parallel.strategy=fsdp2", "fsdp_config={sharding_strategy: NO_SHARD}"],
            "parallel.strategy is fsdp2, but fsdp_config.sharding_strategy is NO_SHARD",
        ),
    ],
)
def test_contradictions(write: Write, overrides: list[str], message: str) -> None:
    found = findings(write, *overrides)
    assert [text for _, text, _ in found if text.startswith(message)], found


def test_missing_shapes_are_all_told(write: Write) -> None:
    found = findings(write, "model={name: llama}")
    assert [text for _, text, _ in found] == [
        f"'model.{name}' is missing" for name in ("d_model", "n_layers", "n_heads")
    ]


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["eval_interval=5ba"], "eval_interval"),
        (["eval_first=true"], "eval_first"),
        (["eval_loader={dataset: {local: x, shuffle_block_size: 9}}"], "eval_loader.dataset.shuffle_block_size"),
        (
            ["eval_loader={dataset: {streams: {a: {local: x, repeat: 2}}}}"],
            "eval_loader.dataset.streams.a.repeat",
        ),
        (["fsdp_config={limit_all_gathers: false}"], "fsdp_config.limit_all_gathers"),
        (
            ["model.pretrained_model_name_or_path=x", "tokenizer.name=y"],
            "model.d_model",
        ),
        (
            ["model={name: hf_causal_lm, pretrained_model_name_or_path: 'gallery:x', revision: main}"],
            "model.revision",
        ),
    ],
)
def test_settings_without_an_effect(write: Write, overrides: list[str], key: str) -> None:
    assert key in [found for found, text, _ in findings(write, *overrides) if "has no effect" in text]


def test_llm_foundrys_defaults_that_differ_are_said(write: Write) -> None:
    found = findings(write, "model={name: mpt_causal_lm}")
    assert [key for key, *_ in found] == ["model", "model"]
    assert "model.attn_config.alibi is true here" in found[0][1] and "model.no_bias is true here" in found[1][1]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.name=lama", "did you mean 'llama'?"),
        ("train_loader.name=texts", "did you mean 'text'?"),
        ("train_loader.datset=1", "did you mean 'dataset'?"),
        (f"{DATASET}={{streams: {{a: {{remot: x}}}}}}", "did you mean 'remote'?"),
        (f"{DATASET}.cache_limit=10", ""),
        (f"{DATASET}.cache_limit=ten", "write a number and a unit: 500mb, 10gb, 1.5tb"),
        (f"{DATASET}.shuffle_algo=naive", "must be py1e, py1br, py1b, py1s or py2s"),
        ("optimizer.name=muonn", "did you mean 'muon'?"),
        ("loss.z_los=1", "did you mean 'z_loss'?"),
    ],
)
def test_typos(write: Write, override: str, says: str) -> None:
    if not says:
        load(write(MINIMAL), PretrainConfig, [override])
        return
    with pytest.raises(ConfigError) as error:
        load(write(MINIMAL), PretrainConfig, [override])
    assert says in str(error.value)
