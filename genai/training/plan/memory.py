"""Peak memory of a training run by part, before it starts; the smallest surprise is the one that was predicted.

Weights, gradients and optimizer state are counted; activations, logits and copies come from running the step on fake
tensors (`simulate`) with a few decoder blocks and going on along the line to all of them. What remains was measured,
and is named so.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from genai.config.finetune import DecoupledLionWConfig, FinetuneConfig, OptimizerConfig, PeftConfig
from genai.models.adapters import add_adapter
from genai.training.activation_checkpointing import checkpoint_activations
from genai.training.plan.simulate import Shape, simulate_step
from genai.training.precision import frozen_dtype

_RUNTIME_BYTES = {"cpu": 48 << 20, "cuda": 512 << 20}
"""Kernels' code and their working memory; on a GPU the context and cuBLAS. Measured, independent of the model."""
_HOLES = {"cpu": 0.2, "cuda": 0.06}
"""Freed memory between live blocks, as a share of what a pass allocates. glibc before 2.38 cannot reuse a hole for an
aligned block of the same size, so that on a CPU it is large; measured on 135M and 20M Llamas, 0.10 to 0.35."""


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Predicted peak above the process with everything imported (CPU), or on the device."""

    parts: dict[str, int]
    """Bytes by part, at the moment of the peak."""
    moment: str
    """When that is: `loading`, `forward`, `loss`, `backward begins`, `backward ends`, `optimizer step`."""

    @property
    def total_bytes(self) -> int:
        """All parts together."""
        return sum(self.parts.values())


def imagine_model(meta: nn.Module, config: FinetuneConfig) -> nn.Module:
    """A copy of `meta` as the job trains it: with its adapter, frozen parts and checkpointing.

    Args:
        meta: the plain model on the meta device; left as it is.
        config: the job.
    """
    model: Any = copy.deepcopy(meta)
    model.config._attn_implementation = config.model.attn_implementation
    peft = config.model.peft_config
    if peft is None and config.model.adapter is not None:
        peft = PeftConfig()
    if peft is not None:
        model = add_adapter(model, peft)
    if config.activation_checkpointing:
        checkpoint_activations(model)
    plain: nn.Module = model
    return plain


def predict_memory(
    model: nn.Module,
    *,
    precision: str,
    optimizer: OptimizerConfig,
    shape: Shape,
    accumulate: bool,
    device: torch.device,
    weight_bits: int | None = None,
) -> MemoryPlan:
    """The peak of a run of `model`.

    Args:
        model: on the meta device, as `imagine_model` returns it.
        precision: `amp_bf16` or `fp32`.
        optimizer: decides how many moments are kept.
        shape: rows and tokens of a forward pass.
        accumulate: whether an optimizer step has several of them.
        device: where it will run; need not be present.
        weight_bits: of a quantised frozen base.
    """
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    frozen_bytes = frozen * (weight_bits / 8 if weight_bits else frozen_dtype(precision).itemsize)
    moments = 1 if isinstance(optimizer, DecoupledLionWConfig) else 2
    held = {
        "weights": 4 * trained,
        "frozen weights": round(frozen_bytes),
        "optimizer": 4 * moments * trained,
        "kernels": _RUNTIME_BYTES[device.type],
    }
    peaks = _extrapolated(model, shape, precision=precision, device=device, accumulate=accumulate)
    peaks["optimizer step"] = Counter({"gradients": 4 * trained})
    moment = max(peaks, key=lambda name: sum(peaks[name].values()))
    live = peaks[moment]
    holes = round(_HOLES[device.type] * sum(size for kind, size in live.items() if kind != "gradients"))
    running = MemoryPlan(parts=_nonzero({**held, **live, "allocator": holes}), moment=moment)
    loading = _loading(model, frozen, round(frozen_bytes), held["kernels"], device)
    return max(running, loading, key=lambda plan: plan.total_bytes)


def _loading(model: nn.Module, frozen: int, frozen_bytes: int, kernels: int, device: torch.device) -> MemoryPlan:
    """While frozen weights are cast the file they come from is mapped as a whole."""
    if device.type != "cpu" or not frozen:
        return MemoryPlan(parts={}, moment="loading")
    file_dtype = getattr(model.config, "dtype", None) or torch.float32
    return MemoryPlan(
        parts={"model file": frozen * file_dtype.itemsize, "frozen weights": frozen_bytes, "kernels": kernels},
        moment="loading",
    )


def _nonzero(parts: dict[str, int]) -> dict[str, int]:
    return {name: size for name, size in parts.items() if size > 0}


def _extrapolated(
    model: nn.Module, shape: Shape, *, precision: str, device: torch.device, accumulate: bool
) -> dict[str, Counter[str]]:
    """Each phase's peak for all blocks, on the line through two small numbers of them."""
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    total = int(base.config.get_text_config().num_hidden_layers)
    few = _blocks_of_each_kind(base.config.get_text_config())
    counts = [total] if total <= 2 * few else [few, 2 * few]
    measured = [
        simulate_step(model, shape, precision=precision, device=device, accumulate=accumulate, num_blocks=count)
        for count in counts
    ]
    if len(counts) == 1:
        return measured[0]
    return {phase: _line(measured[0][phase], measured[1][phase], total / few - 1) for phase in measured[0]}


def _blocks_of_each_kind(config: Any) -> int:
    kinds = list(getattr(config, "layer_types", None) or [])
    return max(2, next((n for n in range(1, len(kinds) + 1) if {*kinds[:n]} == {*kinds}), 2))


def _line(first: Counter[str], second: Counter[str], steps: float) -> Counter[str]:
    """`first` and `steps` times what `second` has more."""
    return Counter({kind: round(first[kind] + steps * (second[kind] - first[kind])) for kind in {*first, *second}})
