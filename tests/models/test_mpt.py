"""llm-foundry's MPT keys as transformers' model."""

from __future__ import annotations

import pytest
import torch

from genai.config.pretrain import MPTAttentionConfig, MPTModelConfig
from genai.models.mpt import build_mpt, mpt_config

pytestmark = pytest.mark.integration

SMALL = MPTModelConfig(
    d_model=32,
    n_heads=4,
    n_layers=2,
    vocab_size=64,
    norm_eps=1e-6,
    attn_config=MPTAttentionConfig(clip_qkv=6.0, softmax_scale=0.25),
)


def test_the_keys_reach_transformers() -> None:
    config = mpt_config(SMALL, max_seq_len=48)
    assert (config.d_model, config.n_heads, config.n_layers, config.vocab_size) == (32, 4, 2, 64)
    assert (config.max_seq_len, config.layer_norm_epsilon, config.tie_word_embeddings) == (48, 1e-6, True)
    attention = config.attn_config
    assert (attention.alibi, attention.clip_qkv, attention.softmax_scale) == (True, 6.0, 0.25)


def test_weights_depend_on_the_seed_alone_and_leave_the_random_state() -> None:
    config = mpt_config(SMALL, max_seq_len=48)
    before = torch.get_rng_state()
    one, same, other = (build_mpt(config, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.transformer.wte.weight, same.transformer.wte.weight)
    assert not torch.equal(one.transformer.wte.weight, other.transformer.wte.weight)
    assert not [name for name, _ in one.named_parameters() if name.endswith("bias")]


def test_it_is_causal() -> None:
    model = build_mpt(mpt_config(SMALL, max_seq_len=16), seed=1).eval()
    rows = torch.randint(64, (2, 12))
    rows[1, :6] = rows[0, :6]
    with torch.no_grad():
        logits = model(input_ids=rows).logits
    assert torch.allclose(logits[0, :6], logits[1, :6], atol=1e-6)
    assert not torch.allclose(logits[0, 6:], logits[1, 6:], atol=1e-3)
