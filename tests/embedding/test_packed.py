"""Packed texts against the same texts one by one, and the kernel against torch's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, BertConfig, ModernBertConfig, RobertaConfig

from genai.embedding.packed import IMPLEMENTATION, Layout, Packing, find_packing, packed_attention

LENGTHS = (9, 9, 9, 6, 4, 4, 1)
LARGE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def made(config: Any, **changes: Any) -> Any:
    torch.manual_seed(0)
    return AutoModel.from_config(config, **changes).eval()


def alone(model: Any, texts: list[Any]) -> torch.Tensor:
    rows = [model(input_ids=torch.from_numpy(text)[None]).last_hidden_state[0] for text in texts]
    return torch.cat(rows)


def some_texts(lengths: tuple[int, ...] = LENGTHS) -> list[Any]:
    random = np.random.default_rng(3)
    return [random.integers(10, 100, length) for length in lengths]


@pytest.mark.parametrize("causal", [False, True])
def test_the_kernel_against_torch(causal: bool) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(sum(LENGTHS), 3, 8, requires_grad=True) for _ in range(3)]
    weights = torch.randn(sum(LENGTHS), 3, 8)
    out = packed_attention(*inputs, Layout(LENGTHS), scale=0.3, causal=causal)
    found = torch.autograd.grad((out * weights).sum(), inputs)
    parts = [each.split(list(LENGTHS)) for each in inputs]
    expected = torch.cat(
        [
            torch.nn.functional.scaled_dot_product_attention(
                *(each.transpose(0, 1) for each in text), scale=0.3, is_causal=causal
            ).transpose(0, 1)
            for text in zip(*parts, strict=True)
        ]
    )
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)
    gradients = torch.autograd.grad((expected * weights).sum(), inputs)
    for ours, theirs in zip(found, gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradient_through_dropped_probabilities(dtype: torch.dtype) -> None:
    """The mask is found out by values that are unit vectors; with it the gradient is written out by autograd."""
    length = 6
    query, key = (torch.randn(length, 1, length).to(dtype).requires_grad_() for _ in range(2))
    value = torch.eye(length)[:, None].to(dtype).requires_grad_()
    torch.manual_seed(1)
    out = packed_attention(query, key, value, Layout((length,)), scale=0.5, dropout=0.25)
    mask = (out[:, 0] != 0).float() / (1 - 0.25)
    assert 0 < int((mask == 0).sum()) < length**2
    weights = torch.randn(length, 1, length)
    found = torch.autograd.grad((out.float() * weights).sum(), (query, key, value))
    copies = [each.detach().float().requires_grad_() for each in (query, key, value)]
    scores = copies[0][:, 0] @ copies[1][:, 0].T * 0.5
    expected = (torch.softmax(scores, -1) * mask) @ copies[2][:, 0]
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(out[:, 0].float(), expected, rtol=0, atol=tolerance)
    for ours, theirs in zip(found, torch.autograd.grad((expected * weights[:, 0]).sum(), copies), strict=True):
        torch.testing.assert_close(ours.float(), theirs, rtol=0, atol=tolerance)


def test_dropped_probabilities_have_their_share() -> None:
    torch.manual_seed(0)
    length = 128
    query, key = (torch.randn(4 * length, 4, length) for _ in range(2))
    value = torch.eye(length)[:, None].expand(-1, 4, -1).repeat(4, 1, 1)
    out = packed_attention(query, key, value, Layout((length,) * 4), scale=0.01, dropout=0.1)
    assert float((out == 0).float().mean()) == pytest.approx(0.1, abs=0.003)
    assert float(out.sum(-1).mean()) == pytest.approx(1, abs=0.01)


def test_groups_are_cut_where_they_would_leave_the_cache() -> None:
    assert Layout((300, 300, 2, 2, 2)).groups == ((1, 300), (1, 300), (3, 2))
    assert Layout((100,) * 8).groups == ((6, 100), (2, 100))
    values = torch.arange(806)
    assert torch.equal(torch.cat([part.flatten() for part in Layout((100,) * 8 + (6,)).split(values)]), values)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last_token", "max"])
def test_poolings_of_a_bert(bert: Path, pooling: Any) -> None:
    model = AutoModel.from_pretrained(bert).eval()
    texts = some_texts()
    tokens = alone(model, texts).split(list(LENGTHS))
    pools = {
        "mean": [text.mean(0) for text in tokens],
        "cls": [text[0] for text in tokens],
        "last_token": [text[-1] for text in tokens],
        "max": [text.amax(0) for text in tokens],
    }
    packing = find_packing(model, 0)
    assert packing == Packing(0)
    torch.testing.assert_close(packing.vectors(model, texts, pooling), torch.stack(pools[pooling]), rtol=0, atol=1e-5)


def test_positions_that_begin_behind_the_fillings_id() -> None:
    model = made(RobertaConfig(vocab_size=100, max_position_embeddings=40, initializer_range=0.5, **LARGE))
    expected = alone(model, some_texts())
    packing = find_packing(model, 1)
    assert packing == Packing(2)
    found = packing.hidden(model, some_texts(), Layout(LENGTHS))
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-6)


def test_a_decoder_with_fewer_key_heads() -> None:
    from transformers import Qwen3Config

    model = made(Qwen3Config(vocab_size=100, num_key_value_heads=2, head_dim=8, initializer_range=0.5, **LARGE))
    expected = alone(model, some_texts())
    packing = find_packing(model, 0)
    assert packing == Packing(0)
    found = packing.hidden(model, some_texts(), Layout(LENGTHS))
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-6)


def test_a_window_that_slides_is_refused() -> None:
    """Short texts would not show it: the window is longer than any that is compared."""
    sizes = {**LARGE, "num_hidden_layers": 4}
    model = made(ModernBertConfig(vocab_size=100, pad_token_id=0, local_attention=64, **sizes))
    before = model.config._attn_implementation
    assert find_packing(model, 0) is None
    assert model.config._attn_implementation == before


def test_biases_by_distance_are_refused() -> None:
    from transformers import MPNetConfig

    assert find_packing(made(MPNetConfig(vocab_size=100, **LARGE)), 1) is None


def test_outside_of_packing_it_is_torchs_kernel(bert: Path) -> None:
    plain, model = (AutoModel.from_pretrained(bert).eval() for _ in range(2))
    assert find_packing(model, 0)
    assert model.config._attn_implementation == IMPLEMENTATION
    ids = torch.randint(5, 100, (3, 12))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    expected = plain(input_ids=ids, attention_mask=mask).last_hidden_state[mask == 1]
    found = model(input_ids=ids, attention_mask=mask).last_hidden_state[mask == 1]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_very_long_texts_are_not_packed() -> None:
    assert Packing(0).fits([1024, 3])
    assert not Packing(0).fits([1025, 3])


def test_dropout_during_the_comparison_is_off_and_the_mode_comes_back() -> None:
    model = made(BertConfig(vocab_size=100, **LARGE)).train()
    assert find_packing(model, 0) == Packing(0)
    assert model.training
