"""Optimizers against their definitions written out step by step, and their state through a checkpoint."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from genai.config.training import AdamWConfig, DecoupledAdamWConfig, DecoupledLionWConfig, MuonConfig, OptimizerConfig
from genai.errors import DataError
from genai.training.optimizers import (
    DecoupledLionW,
    build_optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
    set_learning_rate,
)

CONFIGS: list[OptimizerConfig] = [
    AdamWConfig(lr=1e-2, weight_decay=0.1),
    DecoupledAdamWConfig(lr=1e-2, weight_decay=1e-3),
    DecoupledLionWConfig(lr=1e-3, weight_decay=1e-3),
]
FACTORS = [0.0, 0.5, 1.0, 0.3]


def small_model() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def adam_by_hand(cfg: AdamWConfig | DecoupledAdamWConfig, model: nn.Module) -> list[torch.Tensor]:
    """Loshchilov and Hutter, algorithm 2; Composer's decoupled form multiplies the decay by lr / peak instead of lr."""
    decoupled = isinstance(cfg, DecoupledAdamWConfig)
    results = []
    for index, start in enumerate(model.parameters()):
        weight = start.detach().double()
        first, second = torch.zeros_like(weight), torch.zeros_like(weight)
        for step, factor in enumerate(FACTORS, 1):
            gradients(model, step)
            gradient = list(model.parameters())[index].grad
            assert gradient is not None
            decay = cfg.weight_decay * (factor if decoupled else cfg.lr * factor) if start.ndim > 1 else 0.0
            weight = weight * (1 - decay)
            first = cfg.betas[0] * first + (1 - cfg.betas[0]) * gradient
            second = cfg.betas[1] * second + (1 - cfg.betas[1]) * gradient**2
            corrected = second / (1 - cfg.betas[1] ** step)
            weight = weight - cfg.lr * factor * first / (1 - cfg.betas[0] ** step) / (corrected.sqrt() + cfg.eps)
        results.append(weight)
    return results


def lion_by_hand(cfg: DecoupledLionWConfig, model: nn.Module) -> list[torch.Tensor]:
    """Chen et al., algorithm 2."""
    results = []
    for index, start in enumerate(model.parameters()):
        weight, momentum = start.detach().double(), torch.zeros_like(start, dtype=torch.float64)
        for step, factor in enumerate(FACTORS, 1):
            gradients(model, step)
            gradient = list(model.parameters())[index].grad
            assert gradient is not None
            decay = cfg.weight_decay * factor if start.ndim > 1 else 0.0
            direction = (cfg.betas[0] * momentum + (1 - cfg.betas[0]) * gradient).sign()
            weight = weight * (1 - decay) - cfg.lr * factor * direction
            momentum = cfg.betas[1] * momentum + (1 - cfg.betas[1]) * gradient
        results.append(weight)
    return results


@pytest.mark.parametrize("cfg", CONFIGS, ids=lambda cfg: cfg.name)
def test_steps_are_those_of_the_paper(cfg: OptimizerConfig) -> None:
    by_hand = lion_by_hand if isinstance(cfg, DecoupledLionWConfig) else adam_by_hand
    expected = by_hand(cfg, small_model())  # type: ignore[operator]
    model = small_model()
    optimizer = build_optimizer(cfg, model)
    for step, factor in enumerate(FACTORS, 1):
        assert set_learning_rate(optimizer, factor) == pytest.approx(cfg.lr * factor)
        gradients(model, step)
        optimizer.step()
    for parameter, weight in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.double(), weight, rtol=1e-5, atol=1e-6)


def test_adamw_is_fused() -> None:
    assert build_optimizer(AdamWConfig(), small_model()).defaults["fused"] is True


def test_frozen_parameters_are_left_out() -> None:
    model = small_model()
    model[0].requires_grad_(False)  # type: ignore[index]
    held = [p for group in build_optimizer(AdamWConfig(), model).param_groups for p in group["params"]]
    assert len(held) == 4


def test_lion_in_buckets_and_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut = small_model(), small_model()
    for model in (whole, cut):
        if model is cut:
            monkeypatch.setattr("genai.training.optimizers._BUCKET_ELEMENTS", 6)
        optimizer = DecoupledLionW(model.parameters(), lr=1e-2, weight_decay=0.1)
        gradients(model, 1)
        assert optimizer.step(lambda: 0.5) == 0.5
    for a, b in zip(whole.parameters(), cut.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("cfg", [*CONFIGS, MuonConfig(lr=1e-2)], ids=lambda cfg: cfg.name)
def test_state_survives_bit_for_bit(cfg: OptimizerConfig) -> None:
    def run(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            gradients(model, step)
            optimizer.step()

    model = small_model()
    optimizer = build_optimizer(cfg, model)
    run(model, optimizer, range(3))
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    saved = {k: t.clone() for k, t in optimizer_tensors(optimizer, dict(model.named_parameters())).items()}
    run(model, optimizer, range(3, 6))

    resumed = small_model()
    resumed.load_state_dict(weights)
    second = build_optimizer(cfg, resumed)
    load_optimizer_tensors(second, dict(resumed.named_parameters()), saved)
    run(resumed, second, range(3, 6))
    for a, b in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    for key, tensor in optimizer_tensors(second, dict(resumed.named_parameters())).items():
        assert torch.equal(tensor, optimizer_tensors(optimizer, dict(model.named_parameters()))[key])


def test_no_state_before_the_first_step() -> None:
    model = small_model()
    optimizer = build_optimizer(AdamWConfig(), model)
    names = dict(model.named_parameters())
    assert optimizer_tensors(optimizer, names) == {}
    load_optimizer_tensors(optimizer, names, {})
    assert not optimizer.state


def test_loaded_state_is_a_copy() -> None:
    model = small_model()
    optimizer = build_optimizer(AdamWConfig(), model)
    gradients(model, 0)
    optimizer.step()
    names = dict(model.named_parameters())
    saved = {key: tensor.clone() for key, tensor in optimizer_tensors(optimizer, names).items()}
    kept = {key: tensor.clone() for key, tensor in saved.items()}
    load_optimizer_tensors(optimizer, names, saved)
    gradients(model, 1)
    optimizer.step()
    assert all(torch.equal(saved[key], kept[key]) for key in kept)


def test_foreign_state_is_refused() -> None:
    model = small_model()
    optimizer = build_optimizer(AdamWConfig(), model)
    gradients(model, 0)
    optimizer.step()
    names = dict(model.named_parameters())
    saved = optimizer_tensors(optimizer, names)
    with pytest.raises(DataError, match=r"'9\.weight', which is not trained here"):
        load_optimizer_tensors(optimizer, names, {**saved, "exp_avg/9.weight": torch.zeros(2)})
    with pytest.raises(DataError, match=r"shape \(3,\), not \(4, 5\)"):
        load_optimizer_tensors(optimizer, names, {**saved, "exp_avg/0.weight": torch.zeros(3)})
    incomplete = {key: tensor for key, tensor in saved.items() if key != "exp_avg_sq/0.weight"}
    with pytest.raises(DataError, match="incomplete"):
        load_optimizer_tensors(optimizer, names, incomplete)
