"""The architecture against transformers, weight by weight and logit by logit, and what the trainer asks of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from genai.models.llama import Block, Llama, LlamaConfig
from genai.training.activation_checkpointing import checkpoint_activations
from genai.training.compiling import decoder_blocks
from genai.training.parallel.ranks import stay_on_loopback
from genai.training.throughput import flops_per_token

Make = Callable[..., Any]
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
KINDS: dict[str, dict[str, Any]] = {
    "grouped queries": {},
    "as many keys as queries": {"num_key_value_heads": 4},
    "one key": {"num_key_value_heads": 1},
    "tied": {"tie_word_embeddings": True},
    "head_dim": {"head_dim": 12},
    "theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    "linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
    "dynamic": {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}},
    "llama3": {"rope_parameters": LLAMA3},
    "attention bias": {"attention_bias": True},
    "mlp bias": {"mlp_bias": True},
    "norm_eps": {"rms_norm_eps": 0.1},
}


def ours_of(theirs: Any) -> Llama:
    model = Llama(LlamaConfig.from_hf(theirs.config.to_dict()))
    state = theirs.state_dict()
    if model.lm_head is None:
        del state["lm_head.weight"]
    model.load_state_dict(state)
    return model.eval()


def tokens(seq: int = 50, rows: int = 2) -> torch.Tensor:
    return torch.randint(0, 89, (rows, seq), generator=torch.Generator().manual_seed(seq))


@pytest.mark.integration
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seq", [50, 100])
def test_logits_are_those_of_transformers(kind: str, seq: int, theirs: Make) -> None:
    """Also beyond the context that the config names, where dynamic scaling begins."""
    reference = theirs(**KINDS[kind])
    model = ours_of(reference)
    with torch.no_grad():
        expected, found = reference(tokens(seq)).logits, model(tokens(seq))
    assert expected.abs().max() > 1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.integration
def test_gradients_are_those_of_transformers(theirs: Make) -> None:
    reference = theirs(tie_word_embeddings=True)
    model = ours_of(reference)
    for logits in (reference(tokens()).logits, model(tokens())):
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens().flatten()).backward()
    expected = {name: parameter.grad for name, parameter in reference.named_parameters()}
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-5)


@pytest.mark.integration
def test_positions_and_a_mask_keep_documents_apart(theirs: Make) -> None:
    model = ours_of(theirs())
    row = tokens(30, 1)
    positions = torch.cat([torch.arange(12), torch.arange(18)])[None]
    starts = torch.cat([torch.zeros(12), torch.full((18,), 12)])[:, None]
    index = torch.arange(30)
    mask = ((index <= index[:, None]) & (index >= starts))[None, None]
    with torch.no_grad():
        found = model(row, positions, mask=mask)
        torch.testing.assert_close(found[:, :12], model(row[:, :12]), rtol=0, atol=1e-5)
        torch.testing.assert_close(found[:, 12:], model(row[:, 12:]), rtol=0, atol=1e-5)


CONFIG = LlamaConfig(vocab_size=89, d_model=32, n_layers=3, n_heads=4, n_kv_heads=2, d_ff=48, max_seq_len=64)


def test_a_head_of_the_callers_is_computed_within_the_forward_pass() -> None:
    model = Llama(CONFIG, seed=1)
    seen: dict[str, Any] = {}

    def head(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        seen.update(shape=hidden.shape, weight=weight)
        return hidden.sum()

    assert model(tokens(7), head=head).ndim == 0
    assert seen["shape"] == (2, 7, 32) and seen["weight"] is model.get_output_embeddings().weight


def test_attention_is_the_callers() -> None:
    model = Llama(CONFIG, seed=1)
    masks: list[Any] = []

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any) -> torch.Tensor:
        assert query.shape == (2, 4, 7, 8) and key.shape == value.shape == (2, 2, 7, 8)
        masks.append(mask)
        return query.transpose(1, 2)

    model(tokens(7), mask=torch.ones(1), attend=attend)
    assert len(masks) == 3


def test_under_autocast_products_are_bfloat16_and_the_stream_is_float32() -> None:
    model = Llama(CONFIG, seed=1)
    seen: dict[str, torch.dtype] = {}

    def watch(name: str) -> Any:
        return lambda module, inputs, output: seen.update({f"{name} in": inputs[0].dtype, f"{name} out": output.dtype})

    block = model.model.layers[0]
    assert isinstance(block, Block)
    block.register_forward_hook(watch("block"))
    block.mlp.register_forward_hook(watch("mlp"))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(tokens(7))
    assert seen == {
        "block in": torch.float32,
        "block out": torch.float32,
        "mlp in": torch.bfloat16,
        "mlp out": torch.bfloat16,
    }
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), model(tokens(7)), rtol=0.05, atol=0.01)


def test_recomputing_changes_no_bit_of_a_gradient() -> None:
    gradients = []
    for recompute in (False, True):
        model = Llama(CONFIG, seed=1)
        if recompute:
            checkpoint_activations(model)
        calls: list[int] = []
        model.model.layers[0].register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        model(tokens(7)).square().sum().backward()
        assert len(calls) == 1 + recompute
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])  # type: ignore[arg-type]


@pytest.mark.integration
def test_sharding_in_bfloat16_leaves_positions_in_float32() -> None:
    """FSDP2 casts the float tensors among a block's arguments."""
    import torch.distributed as dist
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    stay_on_loopback()
    model = Llama(CONFIG, seed=1)
    seen: dict[str, Any] = {}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = model(tokens(60))
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        for module in (*model.model.layers, model):
            fully_shard(module, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
        block = model.model.layers[0]
        assert isinstance(block, Block)
        block.self_attn.register_forward_pre_hook(lambda _, inputs: seen.update(x=inputs[0], rotation=inputs[1]))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            found = model(tokens(60))
    finally:
        dist.destroy_process_group()
    assert seen["x"].dtype == torch.bfloat16 and seen["rotation"].cos.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.01)


def test_blocks_are_found() -> None:
    model = Llama(CONFIG, seed=1)
    assert decoder_blocks(model) == list(model.model.layers)


@pytest.mark.integration
@pytest.mark.parametrize("tied", [True, False])
def test_sizes_are_those_of_transformers(tied: bool, theirs: Make) -> None:
    reference = theirs(tie_word_embeddings=tied, attention_bias=True)
    model = ours_of(reference)
    assert model.num_parameters() == reference.num_parameters()
    assert model.flops_per_token(50) == flops_per_token(reference, 50) == flops_per_token(model, 50)


def test_the_meta_device_takes_a_model_of_any_size() -> None:
    big = LlamaConfig(vocab_size=128256, d_model=4096, n_layers=32, n_heads=32, n_kv_heads=8, d_ff=14336)
    with torch.device("meta"):
        model = Llama(big)
    assert model.num_parameters() == 8_030_261_248
