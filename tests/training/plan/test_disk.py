"""Predicted sizes of files against files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from genai.config.training import AdamWConfig, DecoupledLionWConfig, OptimizerConfig
from genai.training.optimizers import build_optimizer, optimizer_tensors
from genai.training.plan.disk import checkpoint_bytes, model_bytes


@pytest.mark.parametrize("cfg", [AdamWConfig(), DecoupledLionWConfig()], ids=lambda cfg: cfg.name)
def test_a_checkpoint_takes_what_was_predicted(cfg: OptimizerConfig, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = torch.nn.Sequential(torch.nn.Linear(1000, 800), torch.nn.Linear(800, 900))
    model[1].bias.requires_grad_(False)
    optimizer = build_optimizer(cfg, model)
    model(torch.randn(1, 1000)).sum().backward()
    optimizer.step()
    save_file({n: p.detach() for n, p in model.named_parameters() if p.requires_grad}, tmp_path / "weights.safetensors")
    save_file(optimizer_tensors(optimizer, dict(model.named_parameters())), tmp_path / "optimizer.safetensors")
    written = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert written <= checkpoint_bytes(model, cfg) <= written * 1.1


def test_an_exported_model_has_all_weights() -> None:
    model = torch.nn.Linear(1000, 1000, bias=False)
    assert 4_000_000 < model_bytes(model) < 4_000_000 * 1.3
