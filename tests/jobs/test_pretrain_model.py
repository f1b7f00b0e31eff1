"""The three kinds of models as architectures: shapes before weights, fingerprints."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from genai.config.loading import load
from genai.config.pretrain import PretrainConfig
from genai.errors import ConfigError
from genai.jobs.pretrain_model import Architecture, as_transformers, describe
from genai.models.llama import Llama
from genai.training.forward import CausalLMLoss
from genai.training.native_loss import LlamaLoss

pytestmark = pytest.mark.integration
CPU = torch.device("cpu")
MPT = {"name": "mpt_causal_lm", "d_model": 32, "n_heads": 4, "n_layers": 2, "vocab_size": 64, "no_bias": True}
MPT["attn_config"] = {"alibi": True}


def architecture(token_job: Any, *overrides: str, num_tokens: int = 51, **changes: Any) -> Architecture:
    return describe(load(token_job.write(**changes), PretrainConfig, overrides), num_tokens=num_tokens)


def test_what_is_left_out_follows_from_the_tokenizer_and_the_width(token_job: Any) -> None:
    found = architecture(token_job, num_tokens=65)
    assert found.vocab_size == 128
    config = found.meta.config
    assert (config.intermediate_size, config.max_position_embeddings, config.num_key_value_heads) == (128, 32, 2)
    assert config.tie_word_embeddings
    wider = architecture(token_job, "model.expansion_ratio=3", "model.vocab_size=70", "model.max_seq_len=64")
    assert (wider.vocab_size, wider.meta.config.intermediate_size) == (70, 128)
    assert wider.meta.config.max_position_embeddings == 64


def test_the_meta_model_has_the_shapes_of_what_is_built(token_job: Any) -> None:
    for model, kind, loss in ((None, Llama, LlamaLoss), (MPT, torch.nn.Module, CausalLMLoss)):
        found = architecture(token_job, **({"model": model} if model else {}))
        assert all(parameter.is_meta for parameter in found.meta.parameters())
        built = found.build(CPU)
        assert isinstance(built, kind)
        shapes = {name: tuple(each.shape) for name, each in as_transformers(built).named_parameters()}
        assert shapes == {name: tuple(each.shape) for name, each in found.meta.named_parameters()}
        assert found.num_parameters == sum(parameter.numel() for parameter in built.parameters())
        config = load(token_job.write(), PretrainConfig).config
        assert isinstance(found.loss(built, config, CPU), loss)


def test_the_fingerprint_tells_shapes_and_weights_apart(token_job: Any) -> None:
    one, same = architecture(token_job), architecture(token_job, "max_duration=9ep")
    other = architecture(token_job, "model.rope_theta=5e4")
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert one.fingerprint.startswith("random:")


def test_sizes_that_do_not_go_together_are_told_at_the_model(token_job: Any) -> None:
    with pytest.raises(ConfigError, match=r"tiny.yaml:\d+:\d+: .*RoPE turns pairs"):
        architecture(token_job, "model.head_dim=7")
    with pytest.raises(ConfigError, match="rope_type 'yarnn' is not known"):
        architecture(token_job, "model.rope_scaling={rope_type: yarnn}")
