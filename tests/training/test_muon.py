"""Muon's step against its definition, who is stepped by whom, and its state through a checkpoint."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from genai.config.training import MuonConfig
from genai.errors import DataError, UsageError
from genai.models.llama import Llama, LlamaConfig
from genai.training.muon import MuonWithAdamW
from genai.training.optimizers import build_optimizer, load_optimizer_tensors, optimizer_tensors, set_learning_rate

CONFIG = MuonConfig(lr=1e-2, weight_decay=0.1, adamw_lr=2e-3)
SIZES = LlamaConfig(vocab_size=50, d_model=16, n_layers=2, n_heads=2, d_ff=24)
FACTORS = [0.0, 0.5, 1.0, 0.3]


def llama(**changes: Any) -> Llama:
    return Llama(LlamaConfig(**{**vars(SIZES), **changes}), seed=1)


def gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def run(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        set_learning_rate(optimizer, FACTORS[step % 4])
        gradients(model, step)
        optimizer.step()


def orthogonalised(matrix: torch.Tensor) -> torch.Tensor:
    """Jordan's Newton-Schulz iteration, in float64 on the singular values themselves."""
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    values = values / values.square().sum().sqrt()
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    stepped: torch.Tensor = left @ values.diag() @ right
    return stepped


@pytest.mark.parametrize("adjust", ["match_rms_adamw", "original"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_steps_are_those_of_the_definition(nesterov: bool, adjust: Any) -> None:
    cfg = MuonConfig(lr=1e-2, weight_decay=0.1, nesterov=nesterov, adjust_lr=adjust)
    model = nn.Sequential(nn.Linear(12, 6, bias=False), nn.Linear(6, 12, bias=False))
    start = [p.detach().double() for p in model.parameters()]
    optimizer = build_optimizer(cfg, model)
    run(model, optimizer, range(4))
    for index, weight in enumerate(start):
        momentum = torch.zeros_like(weight)
        scale = (0.2 * 12**0.5) if adjust == "match_rms_adamw" else max(1, weight.shape[0] / weight.shape[1]) ** 0.5
        for step, factor in enumerate(FACTORS):
            gradients(model, step)
            gradient = list(model.parameters())[index].grad
            assert gradient is not None
            momentum = 0.95 * momentum + 0.05 * gradient
            direction = 0.05 * gradient + 0.95 * momentum if nesterov else momentum
            lr = 1e-2 * factor
            weight = weight * (1 - lr * 0.1) - lr * scale * orthogonalised(direction)
        # torch iterates in bfloat16.
        moved = (weight - start[index]).abs().max()
        found = list(model.parameters())[index].detach().double()
        torch.testing.assert_close(found, weight, rtol=0, atol=0.05 * float(moved))


@pytest.mark.parametrize("tied", [True, False])
def test_blocks_matrices_go_to_muon_and_the_rest_to_adamw(tied: bool) -> None:
    model = llama(tie_embeddings=tied, attention_bias=True)
    optimizer = build_optimizer(CONFIG, model)
    algorithm = {id(p): group["algorithm"] for group in optimizer.param_groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        matrix = parameter.ndim == 2
        hidden = matrix and ".layers." in name
        assert algorithm[id(parameter)] == ("muon" if hidden else "adamw"), name
        assert decay[id(parameter)] == (0.1 if matrix else 0.0), name


def test_adamw_is_fused_and_steps_as_it_does_alone() -> None:
    model = llama()
    alone = copy.deepcopy(model)
    optimizer = build_optimizer(CONFIG, model)
    norms = [p for name, p in alone.named_parameters() if "norm" in name]
    reference = torch.optim.AdamW(norms, lr=2e-3, betas=CONFIG.betas, eps=CONFIG.eps, weight_decay=0.0, fused=True)
    for step in range(3):
        gradients(model, step)
        gradients(alone, step)
        optimizer.step()
        reference.step()
    ours = [p for name, p in model.named_parameters() if "norm" in name]
    assert all(torch.equal(a, b) for a, b in zip(ours, norms, strict=True))
    assert {group["fused"] for group in optimizer.param_groups if group["algorithm"] == "adamw"} == {True}


def test_each_algorithm_has_its_own_learning_rate() -> None:
    optimizer = build_optimizer(CONFIG, llama())
    assert set_learning_rate(optimizer, 0.5) == pytest.approx(5e-3)
    rates = {group["algorithm"]: group["lr"] for group in optimizer.param_groups}
    assert rates == {"muon": pytest.approx(5e-3), "adamw": pytest.approx(1e-3)}
    same = build_optimizer(MuonConfig(lr=1e-2), llama())
    assert {group["initial_lr"] for group in same.param_groups} == {1e-2}


def test_frozen_parameters_are_left_out_and_nothing_for_muon_is_refused() -> None:
    model = llama()
    for parameter in model.model.layers.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(UsageError, match="no weight matrix of a block is trained here"):
        build_optimizer(CONFIG, model)
    model.model.layers[0].mlp.up_proj.weight.requires_grad_()  # type: ignore[union-attr]
    held = [p for group in build_optimizer(CONFIG, model).param_groups for p in group["params"]]
    assert len(held) == 4  # that matrix, the embedding, the head and the last norm


def test_matrices_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False))
    optimizer = build_optimizer(CONFIG, model)
    gradients(model, 1)
    assert optimizer.step(lambda: 0.5) == 0.5
    assert {group["algorithm"] for group in optimizer.param_groups} == {"muon"}


def test_a_resume_is_exact_to_the_bit() -> None:
    model = llama()
    optimizer = build_optimizer(CONFIG, model)
    run(model, optimizer, range(3))
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    saved = {k: t.clone() for k, t in optimizer_tensors(optimizer, dict(model.named_parameters())).items()}
    assert {label.partition("/")[0] for label in saved} == {"momentum_buffer", "exp_avg", "exp_avg_sq", "step"}
    run(model, optimizer, range(3, 7))

    resumed = llama()
    resumed.load_state_dict(weights)
    second = build_optimizer(CONFIG, resumed)
    run(llama(), second, range(1))
    load_optimizer_tensors(second, dict(resumed.named_parameters()), saved)
    run(resumed, second, range(3, 7))
    for (name, a), b in zip(model.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_an_incomplete_state_is_refused() -> None:
    model = llama()
    optimizer = build_optimizer(CONFIG, model)
    run(model, optimizer, range(1))
    names = dict(model.named_parameters())
    saved = optimizer_tensors(optimizer, names)
    del saved["exp_avg/model.norm.weight"]
    with pytest.raises(DataError, match="incomplete"):
        load_optimizer_tensors(optimizer, names, saved)


def test_torchs_own_state_dict_goes_round_too() -> None:
    """What torch.distributed.checkpoint uses; loading it replaces state and groups by new objects."""
    model = llama()
    optimizer = build_optimizer(CONFIG, model)
    run(model, optimizer, range(2))
    other = copy.deepcopy(model)
    second = build_optimizer(CONFIG, other)
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert isinstance(second, MuonWithAdamW)
    for each, its in ((model, optimizer), (other, second)):
        run(each, its, range(2, 5))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
