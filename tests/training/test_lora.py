"""The fused LoRA layer against peft's own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from genai.config.training import PeftConfig
from genai.models.adapters import add_adapter, merge
from genai.training.lora import fuse_lora_layers, lora_linear

CPU = torch.device("cpu")


def leaves(dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    shapes = [(2, 3, 6), (5, 6), (5,), (4, 6), (5, 4)]
    tensors = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    for index in (0, 3, 4):
        tensors[index].requires_grad_()
    return tensors


def by_hand(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, down: torch.Tensor, up: torch.Tensor
) -> torch.Tensor:
    return x @ weight.t() + bias + 0.7 * (x @ down.t() @ up.t())


def test_output_and_gradients() -> None:
    x, weight, bias, down, up = tensors = leaves()
    ours, expected = lora_linear(*tensors, 0.7), by_hand(*tensors)
    torch.testing.assert_close(ours, expected)
    upstream = torch.randn_like(ours)
    for a, b in zip(*(torch.autograd.grad(y, (x, down, up), upstream) for y in (ours, expected)), strict=True):
        torch.testing.assert_close(a, b)
    assert torch.autograd.gradcheck(lambda x, d, u: lora_linear(x, weight, bias, d, u, 0.7), (x, down, up))


def test_an_input_without_gradient_gets_none() -> None:
    x, weight, bias, down, up = leaves()
    lora_linear(x.detach(), weight, bias, down, up, 0.7).sum().backward()  # type: ignore[no-untyped-call]
    assert down.grad is not None and up.grad is not None


def test_bfloat16_under_autocast() -> None:
    tensors = leaves(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        ours = lora_linear(*tensors, 0.7)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), by_hand(*tensors), rtol=0.05, atol=0.1)
    ours.sum().backward()  # type: ignore[no-untyped-call]
    assert all(tensors[index].grad is not None and tensors[index].grad.dtype == torch.float32 for index in (0, 3, 4))  # type: ignore[union-attr]


def adapted(tiny_model: Any, **settings: Any) -> tuple[Any, Any]:
    """The same adapted model twice: peft's, ours."""
    theirs = add_adapter(tiny_model, PeftConfig(r=4, **settings))
    for name, parameter in theirs.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return theirs, copy.deepcopy(theirs)


def logits(model: Any) -> torch.Tensor:
    out: torch.Tensor = model(input_ids=torch.tensor([[3, 9, 4, 12, 7]])).logits
    return out


@pytest.mark.integration
@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"target_modules": ["q_proj", "down_proj"]}])
def test_fused_models_compute_what_pefts_do(tiny_model: Any, settings: dict[str, Any]) -> None:
    theirs, ours = adapted(tiny_model, **settings)
    expected_layers = 2 * (2 if settings.get("target_modules") else 7)
    assert fuse_lora_layers(ours) == expected_layers
    torch.testing.assert_close(logits(ours), logits(theirs), rtol=1e-4, atol=1e-5)
    for model in (theirs, ours):
        logits(model).square().sum().backward()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-3)
    assert [*ours.state_dict()] == [*theirs.state_dict()]


@pytest.mark.integration
@pytest.mark.parametrize("settings", [{"use_dora": True}, {"lora_dropout": 0.5}])
def test_what_is_not_plain_is_left_to_peft(tiny_model: Any, settings: dict[str, Any]) -> None:
    theirs, ours = adapted(tiny_model, **settings)
    fuse_lora_layers(ours)
    results = []
    for model in (theirs, ours):
        torch.manual_seed(1)
        results.append(logits(model.train()))
    assert torch.equal(*results)


@pytest.mark.integration
def test_switching_off_and_merging_still_work(tiny_model: Any) -> None:
    plain = logits(tiny_model).detach()
    theirs, ours = adapted(tiny_model)
    fuse_lora_layers(ours)
    with ours.disable_adapter():
        torch.testing.assert_close(logits(ours), plain)
    assert (logits(ours) - plain).abs().max() > 1e-3
    torch.testing.assert_close(logits(merge(ours)), logits(theirs), rtol=1e-4, atol=1e-4)
