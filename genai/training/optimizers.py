"""Optimizers, the learning rate they step with, and their state as named tensors for a checkpoint.

Weight decay is not applied to parameters of one dimension (norms, biases). AdamW runs as torch's fused kernel on CPU
and GPU; on a CPU the for-loop kernel takes four times as long. Muon lies in `muon.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, overload

import torch
from torch import nn

from genai.config.training import DecoupledAdamWConfig, DecoupledLionWConfig, MuonConfig, OptimizerConfig
from genai.errors import DataError
from genai.training.muon import build_muon
from genai.training.parallel.sharded_tensors import assign, is_sharded

_BUCKET_ELEMENTS = 1 << 24
"""Lion's temporaries hold at most about this many elements at a time (64 MiB in float32)."""


def build_optimizer(
    cfg: OptimizerConfig, model: nn.Module, *, device: torch.device | str = "cpu"
) -> torch.optim.Optimizer:
    """The optimizer `cfg` describes, over the parameters of `model` that require a gradient.

    Args:
        cfg: optimizer section of the job.
        model: frozen parameters are left out.
        device: where the parameters lie; AdamW is fused on CPU and CUDA.

    Raises:
        UsageError: Muon, and no matrix of a block is trained.
    """
    if isinstance(cfg, MuonConfig):
        return build_muon(cfg, model, fused=torch.device(device).type in ("cpu", "cuda"))
    trained = [p for p in model.parameters() if p.requires_grad]
    # torch's loops over many tensors take no mixture of sharded and plain ones.
    kinds = [[p for p in trained if is_sharded(p) == sharded] for sharded in (False, True)]
    groups: list[dict[str, Any]] = [
        group
        for kind in kinds
        for group in (
            {"params": [p for p in kind if p.ndim >= 2], "weight_decay": cfg.weight_decay},
            {"params": [p for p in kind if p.ndim < 2], "weight_decay": 0.0},
        )
    ]
    groups = [{**group, "initial_lr": cfg.lr} for group in groups if group["params"]]
    if isinstance(cfg, DecoupledLionWConfig):
        return DecoupledLionW(groups, lr=cfg.lr, betas=cfg.betas)
    if isinstance(cfg, DecoupledAdamWConfig):
        for group in groups:
            # AdamW multiplies its decay by lr; Composer's decoupled form by lr / initial_lr.
            group["weight_decay"] /= cfg.lr
    fused = torch.device(device).type in ("cpu", "cuda")
    return torch.optim.AdamW(groups, lr=cfg.lr, betas=cfg.betas, eps=cfg.eps, fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set each group's learning rate to `factor` times its peak; returns the first group's."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    return float(optimizer.param_groups[0]["lr"])


class DecoupledLionW(torch.optim.Optimizer):
    """Lion: the sign of an interpolated momentum is the step, weights decay by `weight_decay * lr / initial_lr`.

    Source: Chen et al., Symbolic Discovery of Optimization Algorithms (arXiv:2302.06675), algorithm 2; decoupling as
    in Composer.

    Args:
        params: parameters or groups; a group's `initial_lr` defaults to its `lr`.
        lr: peak learning rate.
        betas: interpolation for the step, decay of the momentum.
        weight_decay: share of a weight removed at each step at the peak learning rate.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})
        for group in self.param_groups:
            group.setdefault("initial_lr", group["lr"])

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
        for group in self.param_groups:
            for bucket in _buckets(p for p in group["params"] if p.grad is not None):
                self._step_bucket(bucket, group)
        return loss

    def _step_bucket(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        beta_step, beta_decay = group["betas"]
        weights: list[torch.Tensor] = list(parameters)
        gradients = [p.grad for p in parameters if p.grad is not None]
        momenta = [self._momentum(p) for p in parameters]
        updates = torch._foreach_lerp(momenta, gradients, 1 - beta_step)
        torch._foreach_sign_(updates)
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - group["weight_decay"] * group["lr"] / group["initial_lr"])
        torch._foreach_add_(weights, updates, alpha=-group["lr"])
        torch._foreach_lerp_(momenta, gradients, 1 - beta_decay)

    def _momentum(self, parameter: nn.Parameter) -> torch.Tensor:
        state = self.state[parameter]
        if not state:
            state["exp_avg"] = torch.zeros_like(parameter)
        momentum: torch.Tensor = state["exp_avg"]
        return momentum


def _buckets(parameters: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    bucket: list[nn.Parameter] = []
    elements = 0
    for parameter in parameters:
        if bucket and elements + parameter.numel() > _BUCKET_ELEMENTS:
            yield bucket
            bucket, elements = [], 0
        bucket.append(parameter)
        elements += parameter.numel()
    if bucket:
        yield bucket


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    """The optimizer's state as tensors called `STATE/PARAMETER`, e.g. `exp_avg/model.norm.weight`; step counters
    included.

    Args:
        optimizer: may not have stepped yet; the result is then empty.
        names: `dict(model.named_parameters())`.
    """
    return {
        f"{key}/{name}": value
        for name, parameter in names.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, names: Mapping[str, nn.Parameter], tensors: Mapping[str, torch.Tensor]
) -> None:
    """Give `optimizer` the state that `optimizer_tensors` returned, bit for bit. Learning rates are not part of it.

    Args:
        optimizer: over the same parameters; state that it has is replaced.
        names: `dict(model.named_parameters())`.
        tensors: copied, so that they may be views of a mapped file.

    Raises:
        DataError: a tensor belongs to no trained parameter or has another shape, or a parameter's state is incomplete.
    """
    # Parameters of one algorithm have the same tensors; Muon and AdamW side by side have different ones.
    algorithms = {id(p): group.get("algorithm") for group in optimizer.param_groups for p in group["params"]}
    known = {name: p for name, p in names.items() if id(p) in algorithms}
    states: dict[str, dict[str, torch.Tensor]] = {}
    for label, tensor in tensors.items():
        key, _, name = label.partition("/")
        if name not in known:
            raise DataError(
                f"the optimizer state holds '{name}', which is not trained here", fix="resume with the same model"
            )
        if tensor.ndim and tensor.shape != known[name].shape:
            raise DataError(
                f"the optimizer state of '{name}' has shape {tuple(tensor.shape)}, not {tuple(known[name].shape)}"
            )
        states.setdefault(name, {})[key] = tensor
    kinds = {(algorithms[id(known[name])], frozenset(state)) for name, state in states.items()}
    if len(kinds) > len({algorithm for algorithm, _ in kinds}):
        raise DataError("the optimizer state is incomplete: parameters have different tensors")
    optimizer.state.clear()
    for name, state in states.items():
        parameter = known[name]
        optimizer.state[parameter] = {key: _like(parameter, tensor) for key, tensor in state.items()}


def _like(parameter: nn.Parameter, tensor: torch.Tensor) -> torch.Tensor:
    copy = (
        torch.empty_like(parameter, dtype=tensor.dtype)
        if tensor.ndim
        else tensor.new_empty((), device=parameter.device)
    )
    copy = copy.detach()
    assign(copy, tensor)
    return copy
