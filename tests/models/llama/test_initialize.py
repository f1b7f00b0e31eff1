"""Fresh weights: their spread, and that they are the same wherever they are drawn."""

from __future__ import annotations

import math

import torch

from genai.models.llama import Llama, LlamaConfig, init_weights

CONFIG = LlamaConfig(vocab_size=300, d_model=64, n_layers=8, n_heads=4, d_ff=128, attention_bias=True)


def test_spread_is_that_of_gpt2() -> None:
    weights = Llama(CONFIG, seed=1).state_dict()
    for name, weight in weights.items():
        if weight.ndim < 2:
            assert (weight == float("norm" in name)).all()
            continue
        added = name.endswith(("o_proj.weight", "down_proj.weight"))
        expected = 0.02 / math.sqrt(16) if added else 0.02
        assert abs(float(weight.std()) / expected - 1) < 0.05, name


def test_a_seed_gives_the_same_bits_and_another_seed_others() -> None:
    first, again, other = (Llama(CONFIG, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


def test_no_two_matrices_are_alike_and_the_global_stream_is_not_touched() -> None:
    before = torch.random.get_rng_state()
    weights = Llama(CONFIG).state_dict()
    torch.random.set_rng_state(before)
    model = Llama(CONFIG)
    state = torch.random.get_rng_state()
    init_weights(model, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    weights = model.state_dict()
    one, two = (weights[f"model.layers.{layer}.mlp.up_proj.weight"] for layer in (0, 1))
    assert not torch.equal(one, two)


def test_a_deeper_model_shares_the_values_of_its_first_blocks() -> None:
    """Every parameter has a stream of its own, named after it."""
    deep = LlamaConfig(vocab_size=300, d_model=64, n_layers=9, n_heads=4, d_ff=128)
    name = "model.layers.3.mlp.up_proj.weight"
    assert torch.equal(Llama(deep, seed=1).state_dict()[name], Llama(CONFIG, seed=1).state_dict()[name])
