"""Muon for the matrices of a model's blocks and fused AdamW for everything else, as one optimizer.

Muon makes the momentum of a weight matrix orthogonal before it steps with it, which suits matrices between hidden
states; embeddings, the head and vectors are trained by AdamW. Source: Jordan et al., Muon: An optimizer for hidden
layers in neural networks (2024); the scale that lets it share AdamW's learning rate and weight decay is that of Liu et
al., Muon is Scalable for LLM Training (arXiv:2502.16982), section 2.2. Both steps are torch's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import torch
from torch import nn

from genai.config.training import MuonConfig
from genai.errors import UsageError


def build_muon(cfg: MuonConfig, model: nn.Module, *, fused: bool) -> MuonWithAdamW:
    """The optimizer `cfg` describes, over the parameters of `model` that require a gradient.

    Args:
        cfg: optimizer section of the job.
        model: frozen parameters are left out.
        fused: whether the device has a fused AdamW.

    Raises:
        UsageError: nothing is left for Muon.
    """
    outside = {id(parameter) for parameter in _embeddings_and_head(model)}
    trained = [p for p in model.parameters() if p.requires_grad]
    hidden = [p for p in trained if p.ndim == 2 and id(p) not in outside]
    if not hidden:
        raise UsageError("no weight matrix of a block is trained here", where="optimizer.name", fix="use adamw")
    chosen = {id(p) for p in hidden}
    rest = [p for p in trained if id(p) not in chosen]
    return MuonWithAdamW(
        torch.optim.Muon(
            hidden,
            lr=cfg.lr,
            weight_decay=cfg.weight_decay,
            momentum=cfg.momentum,
            nesterov=cfg.nesterov,
            ns_steps=cfg.ns_steps,
            adjust_lr_fn=cfg.adjust_lr,
        ),
        torch.optim.AdamW(
            _decay_groups(rest, cfg.weight_decay), cfg.adamw_lr or cfg.lr, cfg.betas, cfg.eps, fused=fused
        )
        if rest
        else None,
    )


def _embeddings_and_head(model: Any) -> list[nn.Parameter]:
    """Look-up tables, and the layer that ends in the vocabulary where the model says which that is."""
    modules = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    if hasattr(model, "get_output_embeddings") and (head := model.get_output_embeddings()) is not None:
        modules.append(head)
    return [parameter for module in modules for parameter in module.parameters()]


def _decay_groups(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class MuonWithAdamW(torch.optim.Optimizer):
    """Two optimizers that step together, with one list of groups and one state.

    A group's `algorithm` says whose it is; `initial_lr` is its peak learning rate.

    Args:
        muon: over the matrices.
        adamw: over the rest; None where there is none.
    """

    def __init__(self, muon: torch.optim.Muon, adamw: torch.optim.AdamW | None) -> None:
        self._parts: dict[str, torch.optim.Optimizer] = {"muon": muon}
        if adamw is not None:
            self._parts["adamw"] = adamw
        groups = [
            {**group, "algorithm": name, "initial_lr": group["lr"]}
            for name, part in self._parts.items()
            for group in part.param_groups
        ]
        super().__init__(groups, {})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for name, part in self._parts.items():
            # Shared anew at each step: loading a state dict replaces both objects.
            part.state = self.state
            part.param_groups = [group for group in self.param_groups if group["algorithm"] == name]
            part.step()
        return loss
