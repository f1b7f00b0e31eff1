"""Which parameters are held in which number format."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from genai.config.training import PeftConfig
from genai.models.adapters import add_adapter
from genai.training.precision import autocast, frozen_dtype, prepare_model


@pytest.mark.parametrize(
    ("precision", "product", "frozen"),
    [("amp_bf16", torch.bfloat16, torch.bfloat16), ("fp32", torch.float32, torch.float32)],
)
def test_products_and_frozen_weights(precision: str, product: torch.dtype, frozen: torch.dtype) -> None:
    with autocast(precision, torch.device("cpu")):
        assert torch.nn.functional.linear(torch.ones(2, 3), torch.ones(4, 3)).dtype == product
    assert frozen_dtype(precision) == frozen


def test_everything_trained_stays_in_float32() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2)).bfloat16()
    prepare_model(model, "amp_bf16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_quantised_weights_are_left_alone() -> None:
    model = torch.nn.Linear(2, 2)
    model.weight = torch.nn.Parameter(torch.ones(2, 2, dtype=torch.uint8), requires_grad=False)
    prepare_model(model, "amp_bf16")
    assert model.weight.dtype == torch.uint8


@pytest.mark.integration
def test_a_frozen_base_is_held_in_bfloat16_and_its_frequencies_are_not(tiny_model: Any) -> None:
    model = add_adapter(tiny_model, PeftConfig(r=2, modules_to_save=["norm"]))
    prepare_model(model, "amp_bf16")
    for name, parameter in model.named_parameters():
        assert parameter.dtype == (torch.float32 if parameter.requires_grad else torch.bfloat16), name
    assert tiny_model.model.rotary_emb.inv_freq.dtype == torch.float32
    adapted = [module for module in model.modules() if hasattr(module, "lora_A")]
    assert adapted and not any(module.cast_input_dtype_enabled for module in adapted)
    assert tiny_model.lm_head.weight is tiny_model.model.embed_tokens.weight


@pytest.mark.integration
def test_adapters_get_what_they_are_given(tiny_model: Any) -> None:
    """No cast to the adapter's float32 and back: the product of the adapter sees bfloat16."""
    model = add_adapter(tiny_model, PeftConfig(r=2, lora_dropout=0.5))
    prepare_model(model, "amp_bf16")
    seen = []
    layer = next(module for module in model.modules() if hasattr(module, "lora_A"))
    layer.lora_A["default"].register_forward_pre_hook(lambda module, args: seen.append(args[0].dtype))
    with autocast("amp_bf16", torch.device("cpu")):
        model.train()(input_ids=torch.tensor([[3, 4]]))
    assert seen == [torch.bfloat16]
